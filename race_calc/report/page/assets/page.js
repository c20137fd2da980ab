"use strict";
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const narrow = window.matchMedia("(max-width: 40rem)").matches;
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const settings = { displayModeBar: false, responsive: true };
  const common = {
    margin: { l: 58, r: 8, t: 8, b: 48 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "#fff",
    font: { family: "system-ui, Segoe UI, Roboto, DejaVu Sans, sans-serif", size: narrow ? 12 : 13, color: "#1b1f24" },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 12 } },
    hovermode: "closest",
    showlegend: true,
    dragmode: touch ? false : "zoom",
  };
  const lines = { automargin: true, gridcolor: "#e3e6ea", linecolor: "#6b7480", zeroline: false, mirror: true, showline: true, ticks: "outside", tickfont: { size: 12 } };
  const titleFont = { size: narrow ? 11 : 12 };

  // Ticks of a logarithmic axis that shows 10^low to 10^high: few enough that no labels overlap.
  function ticks(low, high, most) {
    const first = Math.floor(low), decades = Math.ceil(high) - first;
    for (const steps of [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1, 3], [1]]) {
      const all = Array.from({ length: decades + 1 }, (_, k) => steps.map((step) => Number(`${step}e${first + k}`))).flat();
      const seen = all.filter((value) => Math.log10(value) >= low - 1e-9 && Math.log10(value) <= high + 1e-9);
      if (seen.length <= most || steps.length === 1) return seen.filter((_, i) => i % Math.ceil(seen.length / most) === 0);
    }
  }

  function inView(chart, axis) {
    if (chart.layout[axis].range) return chart.layout[axis].range;
    const values = chart.traces.flatMap((trace) => trace[axis[0]]).filter((value) => value > 0).map(Math.log10);
    return [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
  }

  const most = { xaxis: narrow ? 6 : 7, yaxis: 9 };
  const logarithmic = (chart) => ["xaxis", "yaxis"].filter((axis) => chart.layout[axis].type === "log");

  async function draw(place) {
    const chart = data.charts[place.dataset.chart];
    const layout = { ...common, ...chart.layout };
    for (const axis of ["xaxis", "yaxis"]) layout[axis] = { ...lines, ...chart.layout[axis], title: { ...chart.layout[axis].title, font: titleFont } };
    for (const axis of logarithmic(chart)) layout[axis].tickvals = ticks(...inView(chart, axis), most[axis]);
    await Plotly.newPlot(place, chart.traces, layout, settings);
    place.on("plotly_relayout", (change) => {
      const zoomed = logarithmic(chart).filter((axis) => Object.keys(change).some((key) => key.startsWith(`${axis}.`) && !key.endsWith("tickvals")));
      if (zoomed.length)
        Plotly.relayout(place, Object.fromEntries(zoomed.map((axis) => [`${axis}.tickvals`, ticks(...place.layout[axis].range, most[axis])])));
    });
  }

  async function drawAll() {
    let drawn = 0;
    for (const place of document.querySelectorAll(".plot")) {
      await draw(place);
      document.documentElement.dataset.drawn = String((drawn += 1));
      await new Promise((next) => setTimeout(next, 0)); // lets the page scroll in between
    }
    if (data.structures.length) startViewer();
    document.documentElement.dataset.ready = "yes";
  }

  // ---- the 3-D viewer

  const RAMP = ["#00224e", "#1a386f", "#434e6c", "#61656f", "#7d7c78", "#9b9476", "#bcae6c", "#dec958", "#fee838"]; // cividis
  const SHARE_90 = 2.5003; // root of the 90 % quantile of χ² with 3 degrees of freedom
  const LONGEST = 1.5; // Å, of the largest ellipsoid or arrow
  const MOST_LABELS = 120; // atoms of a structure whose elements are written beside them
  const FAINT = 0.03; // of it: arrows below are left out
  const element = (name) => document.getElementById(`viewer-${name}`);

  function colourOf(value, low, high) {
    if (value === null) return "#999999";
    const at = high > low ? Math.min(Math.max((value - low) / (high - low), 0), 1) * (RAMP.length - 1) : 0;
    const k = Math.min(Math.floor(at), RAMP.length - 2);
    const part = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
    const mixed = [0, 1, 2].map((i) => Math.round(part(RAMP[k], i) + (at - k) * (part(RAMP[k + 1], i) - part(RAMP[k], i))));
    return "#" + mixed.map((v) => v.toString(16).padStart(2, "0")).join("");
  }

  const sphere = (() => {
    const rings = 10, spokes = 16, points = [], faces = [];
    for (let i = 0; i <= rings; i++)
      for (let j = 0; j < spokes; j++) {
        const a = (Math.PI * i) / rings, b = (2 * Math.PI * j) / spokes;
        points.push([Math.sin(a) * Math.cos(b), Math.sin(a) * Math.sin(b), Math.cos(a)]);
      }
    for (let i = 0; i < rings; i++)
      for (let j = 0; j < spokes; j++) {
        const next = (j + 1) % spokes, here = i * spokes, below = here + spokes;
        faces.push(here + j, below + j, below + next, here + j, below + next, here + next);
      }
    return { points, faces };
  })();

  // The image of the sphere under a symmetric matrix (xx yy zz yz xz xy); normals are those of its adjugate.
  function ellipsoid(centre, m, scale) {
    const [xx, yy, zz, yz, xz, xy] = m;
    const adjugate = [yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy, xy * xz - xx * yz, xy * yz - yy * xz, xz * yz - xy * zz];
    const times = ([a, b, c, d, e, f], [x, y, z]) => [a * x + f * y + e * z, f * x + b * y + d * z, e * x + d * y + c * z];
    const vertexArr = [], normalArr = [];
    for (const point of sphere.points) {
      const [x, y, z] = times(m, point), n = times(adjugate, point);
      const length = Math.hypot(...n) || 1;
      vertexArr.push({ x: centre[0] + scale * x, y: centre[1] + scale * y, z: centre[2] + scale * z });
      normalArr.push({ x: n[0] / length, y: n[1] / length, z: n[2] / length });
    }
    return { vertexArr, normalArr, faceArr: sphere.faces };
  }

  const numberOf = (one, i) => (one.atoms ? one.atoms[i] : i); // in its file
  const triple = (values, i) => values.slice(3 * i, 3 * i + 3);
  const point = ([x, y, z]) => ({ x, y, z });

  function hasWebGL() {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  }

  function startViewer() {
    const stage = element("stage");
    if (!stage) return;
    const list = element("structure");
    const groups = {};
    for (const one of data.structures) {
      if (!groups[one.group]) {
        groups[one.group] = document.createElement("optgroup");
        groups[one.group].label = one.group;
        list.append(groups[one.group]);
      }
      groups[one.group].append(new Option(one.label, one.id));
    }
    if (!hasWebGL()) {
      element("note").textContent = "This browser has no WebGL, which the 3-D view needs. The tables below tell the same in numbers.";
      return;
    }
    stage.addEventListener("wheel", (event) => event.stopPropagation(), { capture: true }); // the page scrolls; buttons zoom
    const viewer = $3Dmol.createViewer(stage, { backgroundColor: "white", antialias: true });
    const show = (fresh) => {
      const one = data.structures.find((each) => each.id === list.value) || data.structures[0];
      if (one) render(viewer, one, fresh);
    };
    for (const name of ["colour", "ellipsoids", "arrows"]) element(name).addEventListener("change", () => show(false));
    list.addEventListener("change", () => show(true));
    const turns = {
      left: () => viewer.rotate(-20, "y"), right: () => viewer.rotate(20, "y"), up: () => viewer.rotate(-20, "x"),
      down: () => viewer.rotate(20, "x"), in: () => viewer.zoom(1.25), out: () => viewer.zoom(0.8), reset: () => show(true),
    };
    for (const button of document.querySelectorAll("[data-turn]"))
      button.addEventListener("click", () => { turns[button.dataset.turn](); viewer.render(); });
    for (const button of document.querySelectorAll("[data-show]"))
      button.addEventListener("click", () => {
        list.value = button.dataset.show;
        show(true);
        document.getElementById("viewer").scrollIntoView();
        list.focus({ preventScroll: true });
      });
    show(true);
    new ResizeObserver(() => { viewer.resize(); viewer.render(); }).observe(stage);
  }

  function render(viewer, one, fresh) {
    const n = one.symbols.length;
    const errors = one.error && one.symbols.map((_, i) => (triple(one.error, i).includes(null) ? null : Math.hypot(...triple(one.error, i))));
    const wanted = element("colour");
    wanted.options[1].disabled = !errors;
    wanted.options[0].disabled = !one.sigma;
    if (wanted.selectedOptions[0].disabled) wanted.value = errors ? "error" : "sigma";
    const values = (wanted.value === "error" ? errors : one.sigma) || Array(n).fill(null);
    const known = values.filter((v) => v !== null);
    const low = Math.min(...known), high = Math.max(...known);
    const colours = values.map((v) => colourOf(v, low, high));

    viewer.clear();
    const xyz = one.symbols.map((symbol, i) => `${symbol} ${triple(one.positions, i).join(" ")}`);
    viewer.addModel(`${n}\n\n${xyz.join("\n")}`, "xyz");
    const colorfunc = (atom) => colours[atom.index];
    viewer.setStyle({}, { stick: { radius: 0.08, colorfunc }, sphere: { scale: 0.17, colorfunc } });
    viewer.setHoverable({}, true, (atom) => {
      const parts = [`atom ${numberOf(one, atom.index)} (${atom.elem})`];
      if (one.sigma) parts.push(`expected ${one.sigma[atom.index]} meV/Å`);
      if (errors) parts.push(`error ${errors[atom.index].toPrecision(3)} meV/Å`);
      if (one.squared) parts.push(`d² ${one.squared[atom.index]}`);
      atom.told = viewer.addLabel(parts.join("\n"), { position: atom, fontSize: 13, backgroundColor: "#1b1f24", fontColor: "white" });
    }, (atom) => { viewer.removeLabel(atom.told); delete atom.told; });

    const axes = one.root ? one.symbols.map((_, i) => SHARE_90 * longest(one.root.slice(6 * i, 6 * i + 6))) : [];
    const top = Math.max(...axes, ...(errors || []).filter((v) => v !== null), 1e-9);
    const scale = LONGEST / top;
    if (one.root && element("ellipsoids").checked)
      one.symbols.forEach((_, i) => {
        const shape = ellipsoid(triple(one.positions, i), one.root.slice(6 * i, 6 * i + 6), SHARE_90 * scale);
        viewer.addCustom({ ...shape, color: colours[i], alpha: 0.45 });
      });
    if (errors && element("arrows").checked)
      one.symbols.forEach((_, i) => {
        if (errors[i] === null || errors[i] < FAINT * top) return;
        const from = triple(one.positions, i), by = triple(one.error, i);
        viewer.addArrow({ start: point(from), end: point(from.map((x, k) => x + scale * by[k])), radius: 0.07, color: "#D55E00" });
      });
    if (one.cell) edges(one).forEach(([a, b]) => viewer.addLine({ start: point(a), end: point(b), color: "#6b7480" }));
    const label = { fontSize: 12, fontColor: "#000", backgroundColor: "white", backgroundOpacity: 0.55, inFront: true, alignment: "center", padding: 1 };
    if (n <= MOST_LABELS) one.symbols.forEach((symbol, i) => { // the last argument: do not draw all after each
      if (symbol !== "H") viewer.addLabel(symbol, { ...label, position: point(triple(one.positions, i)) }, undefined, true);
    });
    if (fresh) { viewer.zoomTo(); viewer.zoom(0.9); }
    viewer.render();
    tell(one, values, known, low, high, scale, wanted);
  }

  function longest([xx, yy, zz, yz, xz, xy]) { // an upper bound of the largest eigenvalue: the norm
    return Math.sqrt(xx * xx + yy * yy + zz * zz + 2 * (yz * yz + xz * xz + xy * xy));
  }

  function edges(one) {
    const vector = (i) => triple(one.cell, i);
    const corner = (bits) => [0, 1, 2].map((k) => one.origin[k] + [0, 1, 2].reduce((sum, i) => sum + ((bits >> i) & 1) * vector(i)[k], 0));
    const found = [];
    for (let a = 0; a < 8; a++) for (let i = 0; i < 3; i++) if (!((a >> i) & 1)) found.push([corner(a), corner(a | (1 << i))]);
    return found;
  }

  function tell(one, values, known, low, high, scale, wanted) {
    const ramp = element("ramp"), what = wanted.selectedOptions[0].textContent;
    const text = (value) => String(Number(value.toPrecision(3)));
    ramp.hidden = !known.length;
    ramp.children[0].textContent = known.length ? `${what}: ${text(low)}` : "";
    ramp.children[1].style.background = `linear-gradient(to right, ${RAMP.join(", ")})`;
    ramp.children[2].textContent = known.length ? `${text(high)} meV/Å` : "";
    const worst = values.indexOf(high);
    const note = known.length
      ? `${one.label}: ${what} is largest at atom ${numberOf(one, worst)} (${one.symbols[worst]}), ${text(high)} meV/Å. 1 Å in the picture is ${text(1 / scale)} meV/Å.`
      : `${one.label}: this model gives no covariance of its forces.`;
    element("note").textContent = note + (one.error ? "" : " There is no reference for this frame, so no error is shown.");
    element("stage").setAttribute("aria-label", note);
    element("stage").dataset.shown = one.id;
  }

  drawAll();
})();
