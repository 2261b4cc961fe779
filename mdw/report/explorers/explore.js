// What the explorers share. An explorer is `draw(host, data)`; this file ends every explore_*.js, which stands before it.
// The text of both is the module of an anywidget and, with a call of `mount` behind it, the script of a static page.

function make(tag, attributes = {}, ...children) {
  const space = ["svg", "g", "path", "line", "circle", "text", "rect"].includes(tag) ? "http://www.w3.org/2000/svg" : null;
  const element = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;  // the page's policy lets no style attribute through
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// A labelled control; `id` of the label is unique in the document, whatever else the page or the notebook holds.
let counted = 0;
function labelled(text, control, ...beside) {
  control.id = `explore-${Math.random().toString(36).slice(2, 8)}-${counted++}`;
  return make("div", {class: "x-control"}, make("label", {for: control.id}, text), control, ...beside);
}

function choice(text, options, value, changed) {
  const groups = new Map();
  for (const option of options) groups.set(option.group, [...(groups.get(option.group) ?? []), option]);
  const entries = list => list.map(o => make("option", {value: o.value, selected: o.value === value}, o.text));
  const select = make("select", {onchange: () => changed(select.value)});
  for (const [group, list] of groups)
    select.append(...(group ? [make("optgroup", {label: group}, ...entries(list))] : entries(list)));
  return labelled(text, select);
}

function slider(text, {min, max, step}, value, said, changed) {
  const output = make("output", {}, said(value)), range = make("input", {type: "range", min, max, step, value});
  range.addEventListener("input", () => { output.value = said(+range.value); changed(+range.value) });
  return labelled(text, range, output);
}

function tick(text, checked, changed) {
  const box = make("input", {type: "checkbox", checked});
  box.addEventListener("change", () => changed(box.checked));
  return labelled(text, box);
}

// Arrays that mdw.report.explorer.pack has put into one text -> functions index -> value, each with its `length`, low and high.
async function unpack(packed) {
  const raw = Uint8Array.from(atob(packed.bytes), letter => letter.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  const all = new Uint8Array(await new Response(stream).arrayBuffer()), arrays = [];
  let start = 0;
  packed.sizes.forEach((size, k) => {
    const part = all.subarray(start, start += size), [low, high] = packed.ranges[k];
    arrays.push({size, low, high, at: i => low + part[i] / 255 * (high - low), share: i => part[i] / 255});
  });
  return arrays;
}

async function loaded(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

function canvas(width, height, label) {
  return make("canvas", {width, height, role: "img", "aria-label": label});
}

// The photo, and over it, where `share` (index -> 0..1) is given, a map of w x h: grey where it is low, orange where it is high.
// `shift` moves the map, in its own pixels.
function paint(target, image, share, w, h, shift = 0) {
  const pen = target.getContext("2d"), {width, height} = target;
  pen.globalCompositeOperation = "source-over";
  pen.drawImage(image, 0, 0, width, height);
  if (!share) return pen;
  pen.globalCompositeOperation = "saturation";
  pen.fillStyle = "hsl(0 0% 50%)";
  pen.fillRect(0, 0, width, height);
  pen.globalCompositeOperation = "source-over";
  pen.fillStyle = "rgb(0 0 0 / .35)";
  pen.fillRect(0, 0, width, height);
  const map = make("canvas", {width: w, height: h}), brush = map.getContext("2d"), pixels = brush.createImageData(w, h);
  for (let i = 0; i < w * h; i++) pixels.data.set([230, 159, 0, 220 * share(i)], 4 * i);
  brush.putImageData(pixels, 0, 0);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(map, shift * width / w, shift * height / h, width, height);
  return pen;
}

const number = (value, digits = 2) => value.toFixed(digits).replace("-", "\u2212");

// The static page: every explorer of this kind that is not drawn yet. The still image goes only when the drawing stands.
function mount(kind) {
  for (const host of document.querySelectorAll(`.explorer[data-kind="${kind}"]:not([data-drawn])`)) {
    host.dataset.drawn = "";
    const data = JSON.parse(host.querySelector("script").textContent), place = make("div");
    data.photos = [...host.querySelectorAll(".x-photos img")].map(image => image.src);
    draw(place, data).then(() => host.replaceChildren(place), error => console.error(error));
  }
}

async function render({model, el}) {
  const data = model.get("data");
  await draw(el, data);
  el.append(make("p", {class: "x-about"}, data.caption));
}

export default {render};
