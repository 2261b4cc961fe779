// What a unit's weightings do on a photo: for each branch CDC's gates, the positions of GCM_C, the gates of GCM_S.

async function draw(host, data) {
  const [width, height] = data.size, state = {unit: data.units.length - 1, shared: false};
  const rows = make("div", {class: "x-branches"}), said = make("output", {class: "x-said"});
  let image, arrays;

  // Orange above 0.5, violet below, white at 0.5, where training starts.
  const colour = (gate, reach) => {
    const far = Math.min(1, Math.abs(gate - .5) / reach), end = gate > .5 ? [204, 102, 0] : [84, 39, 136];
    return end.map(part => Math.round(245 + (part - 245) * far));
  };
  const reachOf = gates => Math.max(gates.high - .5, .5 - gates.low, 1e-9);
  const digits = gates => Math.min(6, Math.max(4, 1 - Math.floor(Math.log10(reachOf(gates)))));  // enough to tell its gates apart
  function strip(branch, gates, reach) {
    const [n, channels] = branch.gates, target = canvas(channels, n,
      `CDC's gates of branch ${branch.number}: ${n} kernels by ${channels} channels, ${number(gates.low, 3)} to ${number(gates.high, 3)}`);
    const pen = target.getContext("2d"), pixels = pen.createImageData(channels, n);
    for (let i = 0; i < n * channels; i++) pixels.data.set([...colour(gates.at(i), reach), 255], 4 * i);
    pen.putImageData(pixels, 0, 0);
    // By keys it is a slider over its gates: left and right to the next channel, up and down to the next kernel.
    const read = make("p", {class: "x-read"}), rest = () => { read.textContent = `Full colour: 0.5 ± ${reach.toPrecision(2)}` };
    let here = 0;
    const say = i => {
      here = Math.min(n * channels - 1, Math.max(0, i));
      read.textContent = `Kernel ${Math.floor(here / channels) + 1}, channel ${here % channels + 1}: ${number(gates.at(here), digits(gates))}`;
      target.setAttribute("aria-valuenow", here + 1);
      target.setAttribute("aria-valuetext", read.textContent);
    };
    say(0);
    rest();
    for (const [name, value] of Object.entries({role: "slider", tabindex: 0, "aria-valuemin": 1, "aria-valuemax": n * channels}))
      target.setAttribute(name, value);
    target.addEventListener("pointermove", event => {
      const box = target.getBoundingClientRect(), part = (at, from, size, count) =>
        Math.min(count - 1, Math.max(0, Math.floor((at - from) / size * count)));
      say(part(event.clientY, box.top, box.height, n) * channels + part(event.clientX, box.left, box.width, channels));
    });
    target.addEventListener("keydown", event => {
      const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: channels, ArrowUp: -channels}[event.key];
      if (step) { event.preventDefault(); say(here + step) }
    });
    target.addEventListener("focus", () => say(here));
    for (const leaving of ["pointerleave", "blur"]) target.addEventListener(leaving, rest);
    target.classList.add("x-strip");
    return [target, read];
  }
  function table(branch, gates) {
    const [n, channels] = branch.gates, cell = (tag, text, extra = {}) => make(tag, extra, text), lines = [];
    for (let kernel = 0; kernel < n; kernel++) {
      const values = Array.from({length: channels}, (_, c) => gates.at(kernel * channels + c));
      const mean = values.reduce((a, b) => a + b) / channels;
      const spread = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / channels);
      lines.push(make("tr", {}, cell("th", String(kernel + 1), {scope: "row", class: "n"}),
        ...[mean, spread, Math.min(...values), Math.max(...values)].map(v => cell("td", number(v, digits(gates))))));
    }
    const head = ["kernel", "mean", "std", "lowest", "highest"].map(text => cell("th", text, {scope: "col"}));
    return make("table", {"aria-label": `CDC's gates of branch ${branch.number}, by kernel`},
      make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines));
  }
  function over(title, values, [w, h], says) {
    const small = canvas(width, height, `${title}: ${says}`);
    const span = values.high - values.low;
    paint(small, image, span > 0 ? values.share : () => 0, w, h);
    return make("figure", {}, small, make("figcaption", {}, make("b", {}, title), ` ${says}`));
  }
  function show() {
    const unit = data.units[state.unit];
    const reaches = unit.branches.map(branch => reachOf(arrays[branch.first]));
    rows.replaceChildren(...unit.branches.map((branch, k) => {
      const [gates, positions, spatial] = [0, 1, 2].map(kind => arrays[branch.first + kind]), [w, h] = branch.positions;
      return make("section", {class: "x-branch", "aria-label": `Branch ${branch.number}`},
        make("p", {class: "x-head"}, `Branch ${branch.number}`, make("span", {}, ` ${branch.parts.join(" + ")} channels, ${h} × ${w}`)),
        over("GCM_C", positions, branch.positions, `at most ${number(positions.high * positions.size, 1)}× an even look`),
        over("GCM_S", spatial, branch.spatial, `${number(spatial.low)} to ${number(spatial.high)}`),
        make("div", {class: "x-gates"}, make("b", {}, "CDC"), ...strip(branch, gates, state.shared ? Math.max(...reaches) : reaches[k]), table(branch, gates)));
    }));
    const all = unit.branches.map(branch => arrays[branch.first]);
    said.value = `${unit.name}, stage ${unit.stage}: gates from ${number(Math.min(...all.map(g => g.low)), 3)} to `
      + `${number(Math.max(...all.map(g => g.high)), 3)}.`;
  }
  let asked = 0;
  async function choose(person) {
    const mine = ++asked, found = await Promise.all([loaded(data.photos[person]), unpack(data.people[person].maps)]);
    if (mine !== asked) return;
    [image, arrays] = found;
    show();
  }
  const people = data.people.map((person, k) => ({value: String(k), text: person.name}));
  host.classList.add("x-explorer");
  host.append(make("div", {class: "x-panel x-bar-of-controls"},
    choice("Photo", people, "0", value => choose(+value)),
    slider("Unit", {min: 1, max: data.units.length, step: 1}, state.unit + 1, value => `${value} of ${data.units.length}`,
      value => { state.unit = value - 1; show() }),
    tick("One colour scale for all branches", state.shared, value => { state.shared = value; show() })), said, rows);
  await choose(0);
}
