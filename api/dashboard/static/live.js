// Tells the parts of a page when what they show has changed; they fetch themselves again, by htmx.
//
// A part says what it follows: data-live="jobs" on the page, hx-trigger="live:jobs from:body" on the part.
// While the stream is interrupted all of them are told every 5 seconds.
addEventListener("DOMContentLoaded", () => {
  const topics = new Set();
  for (const part of document.querySelectorAll("[data-live]")) topics.add(part.dataset.live);
  if (!topics.size) return;
  const tell = (topic) => htmx.trigger(document.body, `live:${topic}`);
  const notice = document.querySelector("[data-connection]");
  let polling = null;
  const poll = (on) => {
    notice.hidden = !on;
    if (on && polling === null) polling = setInterval(() => topics.forEach(tell), 5000);
    if (!on && polling !== null) { clearInterval(polling); polling = null; }
  };
  let stream = null;
  const follow = () => {
    const query = [...topics].map((topic) => `topic=${encodeURIComponent(topic)}`).join("&");
    stream = new EventSource(`/admin/live?${query}`);
    stream.addEventListener("open", () => {
      // what changed since the last question was not told to anybody
      if (polling !== null) topics.forEach(tell);
      poll(false);
    });
    stream.addEventListener("changed", (event) => tell(event.data));
    stream.addEventListener("error", () => {
      poll(true);
      // refused for good, or by a service that is starting: browsers come back only to streams that broke
      if (stream?.readyState === EventSource.CLOSED) setTimeout(() => { if (!document.hidden) follow(); }, 5000);
    });
  };
  const rest = () => { stream?.close(); stream = null; poll(false); };
  addEventListener("pagehide", rest);
  // a page that nobody sees holds no connection: browsers have six for a host, and people have more tabs
  document.addEventListener("visibilitychange", () => {
    rest();
    if (document.hidden) return;
    topics.forEach(tell);
    follow();
  });
  if (!document.hidden) follow();
});
// One sheet open at a time; Escape closes it, and the keyboard is back where it was.
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const sheet of document.querySelectorAll("details.ask[open]")) {
    sheet.open = false;
    sheet.querySelector("summary").focus();
  }
});
addEventListener("toggle", (event) => {
  if (!event.target.matches?.("details.ask[open]")) return;
  for (const sheet of document.querySelectorAll("details.ask[open]")) if (sheet !== event.target) sheet.open = false;
}, true);
// What somebody has opened stays open when its part is fetched again, and what they type into a sheet stays.
addEventListener("DOMContentLoaded", () => {
  if (typeof Idiomorph === "undefined") return;
  const callbacks = Idiomorph.defaults.callbacks;
  callbacks.beforeNodeMorphed = (old) => !old.matches?.("details.ask[open]");
  callbacks.beforeAttributeUpdated = (name, node) => !(name === "open" && node.matches("details"));
});
