// Draws the charts of the overview, in the colours of the theme, and fills the table beside each.
//
// The numbers come as JSON from where data-charts says; they are fetched again when something has changed, at
// most every FRESH_MS, and once a minute, since time passes.
addEventListener("DOMContentLoaded", () => {
  const charts = document.querySelector("[data-charts]");
  if (!charts) return;
  const FRESH_MS = 5000;
  const STATES = { succeeded: "--good", partial: "--warn", failed: "--bad", cancelled: "--quiet", expired: "--busy" };
  const LINES = ["--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5", "--chart-6"];
  const plots = new Map();
  let series = null;
  let fetchedAt = 0;
  let waiting = false;

  const colour = (name) => {
    charts.style.color = `var(${name})`;
    const found = getComputedStyle(charts).color;
    charts.style.color = "";
    return found;
  };
  const seconds = (value) => {
    if (value == null) return "–";
    if (value < 1) return `${Number((value * 1000).toPrecision(2))} ms`;
    for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (value >= size) return `${Number((value / size).toPrecision(2))} ${unit}`;
    return `${Number(value.toPrecision(2))} s`;
  };
  const many = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
  const number = (value) => (value == null ? "–" : many.format(value));
  const two = (value) => String(value).padStart(2, "0");
  const clock = (at) => { const time = new Date(at * 1000); return `${two(time.getHours())}:${two(time.getMinutes())}`; };
  const day = (at) => new Date(at * 1000).toLocaleDateString("en", { month: "short", day: "numeric" });
  const moment = (at) => `${day(at)}, ${clock(at)}`;

  // What each chart draws: columns of a name, a colour and values, and how these are written.
  const drawn = {
    ended: () => ({ write: number, stacked: true, columns: Object.entries(STATES).map(([name, ink]) => ({ name, ink, values: series.ended[name] })) }),
    items: () => ({ write: number, stacked: true, columns: ["succeeded", "failed"].map((name) => ({ name, ink: STATES[name], values: series.items[name] })) }),
    waited: () => times("waited"),
    ran: () => times("ran"),
  };
  const times = (what) => ({
    write: seconds,
    columns: Object.entries(series.models).flatMap(([model, found], place) =>
      ["p50", "p95"].map((share) => ({
        name: `${model.split("/").pop()} ${share}`, ink: LINES[place % LINES.length], dash: share === "p95" ? [6, 4] : undefined, values: found[what][share],
      }))),
  });

  const options = (place, { write, stacked, columns }) => {
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, font: "12px system-ui, sans-serif" };
    const far = series.at.at(-1) - series.at[0] > 86400 * 1.5;
    return {
      width: Math.max(place.clientWidth, 200),
      height: 220,
      padding: [8, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false } },
      scales: {
        x: { time: true, range: () => [series.at[0] - series.step_s / 2, series.at.at(-1) + series.step_s / 2] },
        y: stacked ? { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } : { distr: 3 },
      },
      axes: [
        { ...axis, space: far ? 70 : 60, values: (_, splits) => splits.map((at, index) => (!far ? clock(at) : clock(at) === "00:00" || index === 0 ? day(at) : clock(at))) },
        { ...axis, size: 64, values: (_, splits) => splits.map((value) => (value == null ? "" : write(value))) },
      ],
      series: [
        { label: "Time", value: (_, at) => (at == null ? "–" : moment(at)) },
        ...columns.map(({ name, ink, dash, values }) => ({
          label: name,
          stroke: colour(ink),
          width: stacked ? 0 : dash ? 1.5 : 2,
          dash,
          fill: stacked ? colour(ink) : undefined,
          paths: stacked ? uPlot.paths.bars({ size: [0.85, 36], align: 0 }) : undefined,
          points: stacked ? { show: false } : { size: 5, fill: colour(dash ? "--card" : ink), filter: alone },
          value: (_, __, ___, index) => (index == null ? "–" : write(values[index])),
        })),
      ],
    };
  };
  // Of a line only those values need a point that have no neighbour to be joined with, unless there is room for all.
  const alone = (plot, place, show) => {
    const values = plot.data[place];
    return show ? null : values.flatMap((value, index) => (value != null && values[index - 1] == null && values[index + 1] == null ? [index] : []));
  };
  // Of what is stacked each column is drawn up to the sum of it and those behind it in the list, hence the first
  // one, which is the longest, below all others. What is nothing is not drawn.
  const stack = (columns) => {
    const sums = series.at.map(() => 0);
    return [...columns].reverse().map(({ values }) => values.map((value, index) => (value ? (sums[index] += value) : null))).reverse();
  };

  const draw = () => {
    for (const place of charts.querySelectorAll("[data-plot]")) {
      const found = drawn[place.dataset.plot]();
      plots.get(place)?.destroy();
      plots.delete(place);
      place.replaceChildren();
      if (!found.columns.some(({ values }) => values.some(Boolean))) {
        const note = document.createElement("p");
        note.className = "quiet nothing";
        note.textContent = "Nothing in this time.";
        place.append(note);
        continue;
      }
      const data = found.stacked ? stack(found.columns) : found.columns.map(({ values }) => values);
      plots.set(place, new uPlot(options(place, found), [series.at, ...data], place));
    }
    for (const table of charts.querySelectorAll("[data-table]")) if (table.closest("details").open) fill(table);
  };

  const fill = (table) => {
    const { columns, write } = drawn[table.dataset.table]();
    const row = (cells, tag) => {
      const made = document.createElement("tr");
      cells.forEach((text, index) => {
        const cell = document.createElement(index === 0 ? "th" : tag);
        if (index === 0) cell.scope = tag === "th" ? "col" : "row";
        else { cell.className = "number"; if (tag === "th") cell.scope = "col"; }
        cell.textContent = text;
        made.append(cell);
      });
      return made;
    };
    const head = document.createElement("thead");
    head.append(row(["Time", ...columns.map(({ name }) => name)], "th"));
    const body = document.createElement("tbody");
    for (let index = series.at.length - 1; index >= 0; index--) {
      body.append(row([moment(series.at[index]), ...columns.map(({ values }) => write(values[index]))], "td"));
    }
    table.replaceChildren(table.caption, head, body);
  };

  const refresh = async () => {
    fetchedAt = Date.now();
    waiting = false;
    try {
      const answer = await fetch(charts.dataset.charts, { headers: { Accept: "application/json" } });
      if (!answer.ok || !answer.headers.get("Content-Type")?.startsWith("application/json")) return;
      series = await answer.json();
    } catch { return; /* what is shown stays; the notice of live.js says that the connection is gone */ }
    draw();
  };
  const refreshSoon = () => {
    if (waiting || document.hidden) return;
    waiting = true;
    setTimeout(refresh, Math.max(0, fetchedAt + FRESH_MS - Date.now()));
  };

  document.body.addEventListener("live:overview", refreshSoon);
  setInterval(refreshSoon, 60_000);
  addEventListener("visibilitychange", refreshSoon);
  const again = () => series && draw();
  addEventListener("themechange", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new ResizeObserver(() => {
    for (const [place, plot] of plots) if (plot.width !== place.clientWidth) plot.setSize({ width: Math.max(place.clientWidth, 200), height: 220 });
  }).observe(charts);
  for (const table of charts.querySelectorAll("[data-table]")) {
    table.closest("details").addEventListener("toggle", (event) => event.target.open && series && fill(table));
  }
  refresh();
});
