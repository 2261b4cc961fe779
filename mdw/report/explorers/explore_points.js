// Networks as points over two quantities of the reader's choice; published ones are rings, measured ones are filled.

async function draw(host, data) {
  const state = {x: data.x, y: data.y, at: null, pinned: null}, said = make("output", {class: "x-said"}), plot = make("div", {class: "x-plot"});
  const idle = "Point at a mark, or move to it with Tab and the arrow keys, to read it; click or Enter keeps it.";
  const absent = make("p", {class: "x-about"});

  const ticks = (low, high, count) => {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough), found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
    return found;
  };
  function scale(values, from, to) {  // logarithmic where the values span more than a factor of 20
    const least = Math.min(...values), most = Math.max(...values), log = least > 0 && most / least > 20;
    const way = log ? Math.log10 : v => v, low = way(least), high = way(most), air = (high - low || Math.abs(high) || 1) * .08;
    const at = v => from + (way(v) - low + air) / (high - low + 2 * air) * (to - from);
    const marks = log ? [.1, .2, .5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].filter(v => v >= least && v <= most)
      : ticks(low - air, high + air, Math.abs(to - from) / 70);
    return {at, marks, log};
  }
  const text = v => Math.abs(v) >= 1000 ? v.toFixed(0) : String(+v.toPrecision(4));
  const tell = point => `${point.label}, ${point.origin}${point.about ? ` (${point.about})` : ""}: `
    + `${text(point.values[state.x])} ${state.x}, ${text(point.values[state.y])} ${state.y}.`;

  function show() {
    const wide = Math.max(280, plot.clientWidth || 640), tall = Math.round(Math.min(420, Math.max(280, wide * .62)));
    const both = data.points.filter(p => p.values[state.x] != null && p.values[state.y] != null);
    const [left, right, top, bottom] = [52, 14, 14, 44], parts = [], names = [];
    const svg = make("svg", {width: wide, height: tall, viewBox: `0 0 ${wide} ${tall}`, role: "group",
      "aria-label": `${both.length} networks by ${state.x} and ${state.y}`});
    said.value = both.length ? idle : "No network has both.";
    const lacking = data.points.filter(p => !both.includes(p)).map(p => `${p.label} (${p.origin})`);
    absent.textContent = lacking.length ? `Not drawn, because one of the two is not known: ${[...new Set(lacking)].join(", ")}.` : "";
    if (!both.length) return plot.replaceChildren(svg);
    const x = scale(both.map(p => p.values[state.x]), left, wide - right), y = scale(both.map(p => p.values[state.y]), tall - bottom, top);
    for (const v of x.marks) parts.push(make("line", {class: "x-tick", x1: x.at(v), x2: x.at(v), y1: top, y2: tall - bottom}),
      make("text", {x: x.at(v), y: tall - bottom + 16, "text-anchor": "middle"}, text(v)));
    for (const v of y.marks) parts.push(make("line", {class: "x-tick", x1: left, x2: wide - right, y1: y.at(v), y2: y.at(v)}),
      make("text", {x: left - 7, y: y.at(v) + 4, "text-anchor": "end"}, text(v)));
    parts.push(make("text", {x: (left + wide - right) / 2, y: tall - 8, "text-anchor": "middle"}, state.x + (x.log ? ", logarithmic" : "")),
      make("text", {x: 14, y: (top + tall - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(top + tall - bottom) / 2})`},
        state.y + (y.log ? ", logarithmic" : "")));
    svg.append(make("g", {"aria-hidden": "true"}, ...parts));
    const order = [...both].sort((a, b) => a.values[state.x] - b.values[state.x]), marks = [], taken = [];
    const place = order.map(p => [x.at(p.values[state.x]), y.at(p.values[state.y])]);
    for (const [cx, cy] of place) taken.push([cx - 7, cy - 7, cx + 7, cy + 7]);
    const pick = k => {
      state.at = order[k];
      marks.forEach((mark, i) => mark.setAttribute("tabindex", i === k ? 0 : -1));
      said.value = tell(order[k]);
      marks.forEach((mark, i) => mark.classList.toggle("x-here", i === k));
    };
    const rest = () => state.pinned && order.includes(state.pinned) ? pick(order.indexOf(state.pinned))
      : (said.value = idle, marks.forEach(mark => mark.classList.remove("x-here")));
    order.forEach((p, k) => {
      const [cx, cy] = place[k], published = p.origin === "published";
      const mark = make("g", {role: "button", tabindex: k ? -1 : 0, "aria-label": tell(p), "aria-pressed": String(p === state.pinned),
        class: `x-point ${published ? "x-published" : "x-measured"}${p.ours ? " x-ours" : ""}`},
        make("circle", {class: "x-reach", cx, cy, r: 14}), make("circle", {cx, cy, r: 6}));
      const press = () => {
        state.pinned = state.pinned === p ? null : p;
        marks.forEach((other, i) => other.setAttribute("aria-pressed", String(order[i] === state.pinned)));
        pick(k);
      };
      mark.addEventListener("pointerenter", () => pick(k));
      mark.addEventListener("pointerleave", rest);
      mark.addEventListener("focus", () => pick(k));
      mark.addEventListener("blur", rest);
      mark.addEventListener("click", press);
      mark.addEventListener("keydown", event => {
        const to = {ArrowRight: k + 1, ArrowUp: k + 1, ArrowLeft: k - 1, ArrowDown: k - 1, Home: 0, End: order.length - 1}[event.key];
        if (event.key === "Enter" || event.key === " ") press();
        else if (marks[to]) marks[to].focus();
        else return;
        event.preventDefault();
      });
      marks.push(mark);
    });
    // The name beside its mark where there is room for it, ours first; else the mark alone, whose name is one step away.
    for (const p of [...order].sort((a, b) => b.ours - a.ours)) {
      const k = order.indexOf(p), [cx, cy] = place[k], long = p.label.length * (p.ours ? 7.2 : 6.4);
      for (const [dx, dy, anchor] of [[10, 4, "start"], [-10, 4, "end"], [0, -11, "middle"], [0, 20, "middle"]]) {
        const from = cx + dx - (anchor === "end" ? long : anchor === "middle" ? long / 2 : 0);
        const box = [from, cy + dy - 11, from + long, cy + dy + 3];
        const free = box[0] > left && box[2] < wide && box[1] > 0 && box[3] < tall - bottom
          && !taken.some((t, i) => i !== k && t[0] < box[2] && t[2] > box[0] && t[1] < box[3] && t[3] > box[1]);
        if (free) {
          taken.push(box);
          names.push(make("text", {class: p.ours ? "x-ours" : "", x: cx + dx, y: cy + dy, "text-anchor": anchor}, p.label));
          break;
        }
      }
    }
    svg.append(make("g", {"aria-hidden": "true"}, ...names), make("g", {}, ...marks));
    plot.replaceChildren(svg);
    rest();
  }
  const axes = data.axes.map(name => ({value: name, text: name}));
  const key = (kind, words) => make("span", {class: "x-key"}, make("svg", {width: 16, height: 16, "aria-hidden": "true"},
    make("g", {class: `x-point ${kind}`}, make("circle", {cx: 8, cy: 8, r: 5.5}))), words);
  host.classList.add("x-explorer");
  host.append(make("div", {class: "x-panel x-bar-of-controls"},
    choice("Across", axes, state.x, value => { state.x = value; show() }),
    choice("Up", axes, state.y, value => { state.y = value; show() })),
    make("p", {class: "x-keys"}, key("x-published", "published"), key("x-measured", "measured here")), plot, said, absent);
  show();
  let width = 0;  // letters keep their size on a phone: the drawing is made anew for the width there is
  new ResizeObserver(() => { if (plot.clientWidth && plot.clientWidth !== width) { width = plot.clientWidth; show() } }).observe(plot);
}
