// Keeps the overview up to date. The page is complete without it, as it was when it was loaded.
"use strict";

(() => {
  const hour = { at_s: [], checks_per_s: [], p50_ms: [], p99_ms: [], marks: [] };
  const HOUR_S = 3600;
  const SHORTEST_S = 180;
  const HEIGHT = 210;
  const live = document.getElementById("live");
  const announced = document.getElementById("announced");
  let source = null;
  let plots = [];

  function showLive(state, text) {
    live.classList.remove("unseen");
    live.dataset.state = state;
    if (live.textContent !== text) live.textContent = text;
  }

  // --- the parts, which the server has rendered

  function update(parts) {
    for (const [name, html] of Object.entries(parts)) {
      const part = document.querySelector(`[data-part="${name}"]`);
      if (!part || selected(part)) continue;
      const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      part.innerHTML = html;
      const again = focused && part.querySelector(`[href="${CSS.escape(focused)}"]`);
      if (again) again.focus({ preventScroll: true });
    }
    announce();
  }

  // What a person is about to copy is left alone.
  function selected(part) {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  }

  // Announce a new problem to screen readers, not every new figure.
  let codes = sentence().dataset.codes;

  function sentence() {
    return document.getElementById("sentence");
  }

  function announce() {
    const now = sentence();
    document.title = document.title.replace(/^.* – /, `${now.textContent.trim()} – `);
    if (now.dataset.codes === codes) return;
    codes = now.dataset.codes;
    announced.textContent = now.textContent.trim();
  }

  // --- the plots

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const mark of hour.marks) {
      const x = Math.round(plot.valToPos(mark.at_s, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = colour({ outage: "--bad", recovery: "--ok" }[mark.kind] || "--dim");
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  // The last hour, or since this node's start if that is later.
  function span() {
    const now = hour.at_s.at(-1) ?? Date.now() / 1000;
    return [Math.max(now - HOUR_S, Math.min(hour.at_s[0] ?? now, now - SHORTEST_S)), now];
  }

  function options(element, title, series, unit) {
    const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    return {
      title,
      width: element.clientWidth,
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { y: false },
      legend: { live: true },
      scales: {
        x: { range: span },
        y: { range: (_plot, _low, high) => [0, Math.max(1, (high || 0) * 1.1)] },
      },
      axes: [
        { ...axis, values: "{HH}:{mm}", space: 60, size: 30, incrs: [60, 120, 300, 600, 900] },
        { ...axis, size: 52, values: (_plot, values) => values.map((value) => (value % 1 ? value.toFixed(1) : String(value))) },
      ],
      series: [
        { value: (_plot, value) => (value == null ? "–" : new Date(value * 1000).toISOString().slice(11, 19)), label: "UTC" },
        ...series.map((one) => ({ ...one, width: 1.5, points: { show: false }, spanGaps: false, value: (_plot, value) => (value == null ? "–" : `${value} ${unit}`) })),
      ],
      hooks: { draw: [drawMarks] },
    };
  }

  function make(id, title, unit, series, columns) {
    const element = document.getElementById(id);
    element.replaceChildren();
    const data = () => [hour.at_s, ...columns.map((column) => hour[column])];
    const plot = new uPlot(options(element, title, series, unit), data(), element);
    return { element, plot, refresh: () => plot.setData(data()) };
  }

  function draw() {
    plots.forEach(({ plot }) => plot.destroy());
    plots = [
      make("lateness", "Lateness, ms", "ms", [
        { label: "p99", stroke: colour("--second"), fill: colour("--second-fill") },
        { label: "p50", stroke: colour("--accent") },
      ], ["p99_ms", "p50_ms"]),
      make("rate", "Checks per second", "/s", [
        { label: "checks/s", stroke: colour("--accent"), fill: colour("--accent-fill") },
      ], ["checks_per_s"]),
    ];
  }

  function refresh() {
    plots.forEach((one) => one.refresh());
  }

  function add({ point, marks }) {
    hour.marks = marks;
    for (const column of ["at_s", "checks_per_s", "p50_ms", "p99_ms"]) {
      hour[column].push(point[column]);
    }
    while (hour.at_s.length && hour.at_s[0] < point.at_s - HOUR_S) {
      for (const column of ["at_s", "checks_per_s", "p50_ms", "p99_ms"]) hour[column].shift();
    }
    refresh();
  }

  // --- the stream

  function open() {
    if (source) return;
    source = new EventSource("/events");
    source.addEventListener("parts", (event) => {
      update(JSON.parse(event.data));
      showLive("on", "Live");
    });
    source.addEventListener("hour", (event) => {
      Object.assign(hour, JSON.parse(event.data));
      refresh();
    });
    source.addEventListener("point", (event) => add(JSON.parse(event.data)));
    source.onerror = () => {
      showLive("lost", "Not live: this node does not answer. Trying again.");
      if (source && source.readyState === EventSource.CLOSED) {
        close();
        setTimeout(() => document.hidden || open(), 5000);
      }
    };
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  // A hidden page costs the node nothing.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let wait = 0;
  new ResizeObserver(() => {
    clearTimeout(wait);
    wait = setTimeout(() => plots.forEach(({ element, plot }) => plot.setSize({ width: element.clientWidth, height: HEIGHT })), 50);
  }).observe(document.getElementById("lateness"));

  draw();
  open();
})();
