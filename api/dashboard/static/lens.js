// The viewer of a logit lens: a layer and a label, and all that goes with them. Without it, links do the same.
const start = async () => {
  const lens = document.querySelector("[data-lens]:not([data-started])");
  if (!lens) return;
  lens.dataset.started = "";
  const all = (what) => lens.querySelectorAll(what);
  const one = (what) => lens.querySelector(what);
  const answer = await fetch(`${lens.dataset.lens}/result.json`, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const item = await answer.json();
  const { pooled, top } = item;
  const slider = one("[data-layers]");
  const layers = slider.dataset.layers.split(" ").map(Number);
  const over = one("[data-over]");
  const pick = one("[data-pick]");
  let map = lens.dataset.map ? item[lens.dataset.map] : null;
  let layer = Number(lens.dataset.layer);
  let label = lens.dataset.label;
  for (const part of all("[data-scripted]")) part.hidden = false;
  for (const part of all("[data-unscripted]")) part.hidden = true;

  // The picture: the next map is shown once it is there, so that nothing flickers.
  const labelled = map !== null && "labels" in map;
  const query = (at) => {
    const asked = new URLSearchParams({ layer: at, label });
    if (map) asked.set("map", lens.dataset.map);
    return asked;
  };
  const mapUrl = (at) => `${lens.dataset.lens}/heatmap.png?${query(at)}`;
  const held = new Map();
  const load = (at) => {
    const url = mapUrl(at);
    if (!held.has(url)) {
      const image = new Image();
      image.src = url;
      held.set(url, image);
    }
    return held.get(url);
  };
  const drawMap = async () => {
    if (!map) return;
    const there = map.layers.includes(layer);
    one("[data-unmapped]").hidden = there;
    one("[data-caption]").textContent = labelled ? `${label}, layer ${layer}` : `${pick.elements.map.selectedOptions?.[0].text ?? lens.dataset.map}, layer ${layer}`;
    over.hidden = !there;
    if (!there) return;
    const wanted = load(layer);
    const [asked, of] = [layer, label];
    try { await wanted.decode(); } catch { return; }
    if (asked !== layer || of !== label) return;
    over.src = wanted.src;
    over.alt = `Map of ${label} at layer ${layer}`;
    const place = map.layers.indexOf(layer);
    for (const near of [1, -1, 2]) if (map.layers[place + near] !== undefined) load(map.layers[place + near]);
  };
  const opacity = one("[data-opacity]");
  const fade = () => {
    over.style.opacity = opacity.value / 100;
    one("[data-opacity-shown]").textContent = `${opacity.value}%`;
  };
  if (opacity) { opacity.addEventListener("input", fade); fade(); }

  // The table and what is said beside it.
  const tell = () => {
    const row = pooled.layers.indexOf(layer);
    for (const part of all("[data-layer-shown]")) part.textContent = layer;
    one("[data-top]").textContent = row < 0 ? "–" : top.label_by_layer?.[row] ?? pooled.labels[best(pooled.cosine[row])];
    for (const line of all("[data-place]")) {
      const place = Number(line.dataset.place);
      const value = row < 0 ? null : pooled.cosine[row][place];
      line.querySelector("meter").value = value ?? line.querySelector("meter").min;
      line.querySelector("[data-cosine]").textContent = value === null ? "–" : `${value < 0 ? "" : "+"}${value.toFixed(3)}`;
      line.querySelector("[data-rank]").textContent = row < 0 ? "–" : pooled.rank?.[row][place] ?? "–";
      line.classList.toggle("chosen", pooled.labels[place] === label);
    }
    for (const link of all("[data-to-label]")) mark(link, link.dataset.toLabel === label, query(layer), "label", link.dataset.toLabel);
    for (const link of all("[data-to-layer]")) mark(link, Number(link.dataset.toLayer) === layer, query(layer), "layer", link.dataset.toLayer);
    slider.value = layers.indexOf(layer);
    slider.setAttribute("aria-valuetext", `layer ${layer}`);
    pick.elements.layer.value = layer;
    pick.elements.label.value = label;
  };
  const best = (row) => row.indexOf(Math.max(...row));
  const mark = (link, current, asked, name, value) => {
    asked.set(name, value);
    link.href = `?${asked}`;
    if (current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  };

  // The curves: colours and strokes are those of the swatches in the table, which is their legend.
  const curve = one("[data-curve]");
  let plot = null;
  const colour = (part) => getComputedStyle(part).color;
  const drawn = () => [...all("[data-place]")].filter((line) => line.querySelector(".swatch") || line.classList.contains("chosen"));
  const drawCurve = () => {
    plot?.destroy();
    const ink = colour(lens);
    const quiet = colour(one(".quiet"));
    const grid = { stroke: colour(one(".curve")), width: 1 };
    const axis = { stroke: quiet, font: "12px system-ui", grid, ticks: grid };
    const series = drawn().map((line) => {
      const swatch = line.querySelector(".swatch");
      const chosen = line.classList.contains("chosen");
      const dash = (swatch?.firstElementChild.getAttribute("stroke-dasharray") ?? "").split(" ").filter(Boolean).map(Number);
      return { label: line.dataset.place, stroke: swatch ? colour(swatch) : ink, dash, width: chosen ? 3.5 : 1.5, points: { show: chosen, size: 7 } };
    });
    const values = drawn().map((line) => pooled.cosine.map((row) => row[Number(line.dataset.place)]));
    const upright = (u, at, stroke, dash, width) => {
      const x = u.valToPos(at, "x", true);
      Object.assign(u.ctx, { strokeStyle: stroke, lineWidth: width * devicePixelRatio });
      u.ctx.setLineDash(dash.map((part) => part * devicePixelRatio));
      u.ctx.beginPath();
      u.ctx.moveTo(x, u.bbox.top);
      u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
      u.ctx.stroke();
    };
    const whole = (_, ticks) => ticks.map((at) => (Number.isInteger(at) ? at : ""));
    plot = new uPlot({
      width: curve.clientWidth, height: 260, legend: { show: false },
      cursor: { x: false, y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: false }, y: { range: (_, low, high) => [low - 0.05 * (high - low || 1), high + 0.05 * (high - low || 1)] } },
      axes: [{ ...axis, size: 28, label: "layer", labelSize: 18, labelFont: "12px system-ui", incrs: [1, 2, 5, 10, 20, 50], values: whole }, { ...axis, size: 48, label: "cosine", labelSize: 18, labelFont: "12px system-ui" }],
      series: [{}, ...series],
      hooks: {
        draw: [(u) => {
          u.ctx.save();
          if (curve.dataset.settle !== "") upright(u, Number(curve.dataset.settle), quiet, [2, 4], 1);
          upright(u, layer, ink, [], 1.5);
          u.ctx.restore();
        }],
      },
    }, [pooled.layers, ...values], curve);
    plot.over.addEventListener("click", (event) => {
      const at = plot.posToVal(event.offsetX, "x");
      show(layers.reduce((near, each) => (Math.abs(each - at) < Math.abs(near - at) ? each : near)), label);
    });
  };

  const show = (newLayer, newLabel) => {
    const other = newLabel !== label;
    [layer, label] = [newLayer, newLabel];
    tell();
    drawMap();
    if (other) drawCurve();
    else plot?.redraw(false, false);
    history.replaceState(null, "", `?${query(layer)}`);
  };
  slider.addEventListener("input", () => show(layers[Number(slider.value)], label));
  pick.elements.label.addEventListener("change", (event) => show(layer, event.target.value));
  // another kind of map has other layers and another scale: the page is asked for it
  pick.elements.map?.addEventListener?.("change", () => pick.submit());
  lens.addEventListener("click", (event) => {
    const link = event.target.closest("[data-to-layer], [data-to-label]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    show(Number(link.dataset.toLayer ?? layer), link.dataset.toLabel ?? label);
  });
  // arrow keys move through the layers wherever nothing else takes them
  addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, [tabindex='0']")) return;
    const next = layers[layers.indexOf(layer) + step];
    if (next === undefined) return;
    event.preventDefault();
    show(next, label);
  });
  tell();
  drawMap();
  drawCurve();
  addEventListener("themechange", drawCurve);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCurve);
  new ResizeObserver(() => { if (plot && curve.clientWidth && plot.width !== curve.clientWidth) plot.setSize({ width: curve.clientWidth, height: 260 }); }).observe(curve);
};
addEventListener("DOMContentLoaded", start);
// a page that waited for the result has it now
addEventListener("htmx:afterSettle", start);
