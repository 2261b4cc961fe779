// A person in a photo: the joints that a network finds, the map of each, and what falls below a threshold.
const SIDES = {left: "#56b4e9", right: "#e69f00", middle: "#f0f0f0"}, OUTLINE = "#141414";

async function draw(host, data) {
  const [width, height] = data.size, [w, h] = data.map;
  const state = {person: 0, threshold: data.threshold, map: "all", truth: false};
  const said = make("output", {class: "x-said"}), photo = canvas(width, height, ""), list = make("div", {class: "x-joints"});
  const about = make("p", {class: "x-about"});
  let image, maps;

  const strongest = i => Math.max(...maps.map(map => map.at(i))) / Math.max(...maps.map(map => map.high), 1e-9);
  // A joint at a map's whole number lies on the middle of that pixel, and on the crop's pixel at so many times the stride.
  function show() {
    const person = data.people[state.person], on = person.points.map(([, , score]) => score > 0 && score >= state.threshold);
    const share = state.map === "none" ? null : state.map === "all" ? strongest : maps[+state.map].share;
    const pen = paint(photo, image, share, w, h, -.5), at = ([x, y]) => [x + .5, y + .5];
    const limbs = data.limbs.filter(([a, b]) => on[a] && on[b]);
    pen.lineCap = "round";
    for (const [style, wide] of [[() => OUTLINE, 6], [limb => SIDES[limb[2]], 3]])
      for (const limb of limbs) {
        pen.beginPath();
        pen.moveTo(...at(person.points[limb[0]]));
        pen.lineTo(...at(person.points[limb[1]]));
        Object.assign(pen, {strokeStyle: style(limb), lineWidth: wide}).stroke();
      }
    person.points.forEach((point, j) => {
      const chosen = String(j) === state.map;
      if (!on[j] && !chosen) return;
      pen.beginPath();
      pen.arc(...at(point), chosen ? 7 : 4.5, 0, 7);
      Object.assign(pen, {fillStyle: on[j] ? SIDES[data.sides[j]] : "transparent", strokeStyle: OUTLINE, lineWidth: 1.5});
      pen.fill();
      pen.stroke();
    });
    if (state.truth) person.truth.forEach((point, j) => {
      if (!point) return;
      const [x, y] = at(point);
      for (const [strokeStyle, lineWidth] of [[OUTLINE, 4], ["#fff", 1.8]]) {
        pen.beginPath();
        pen.moveTo(x - 5, y - 5); pen.lineTo(x + 5, y + 5); pen.moveTo(x - 5, y + 5); pen.lineTo(x + 5, y - 5);
        Object.assign(pen, {strokeStyle, lineWidth}).stroke();
      }
    });
    for (const row of list.querySelectorAll("label[data-joint]")) row.classList.toggle("x-off", !on[row.dataset.joint]);
    const kept = on.filter(Boolean).length, of = state.map === "none" ? "no heatmap"
      : state.map === "all" ? "the highest of all heatmaps" : `the heatmap of ${data.joints[state.map]}`;
    said.value = `${kept} of ${on.length} joints score ${number(state.threshold)} or more.`;
    photo.setAttribute("aria-label", `${person.name}: ${kept} joints drawn over the photo, with ${of}`);
  }

  function joints() {  // rebuilt for each person, because the scores are theirs
    const person = data.people[state.person], name = `map-${Math.random().toString(36).slice(2)}`;
    const entry = (value, text, score) => make("label", score == null ? {} : {"data-joint": value},
      make("input", {type: "radio", name, value, checked: value === state.map,
        onchange: () => { state.map = value; show() }}), make("span", {}, text),
      ...(score == null ? [] : [make("span", {class: "x-bar", style: `--share: ${Math.min(1, Math.max(0, score))}`}),
        make("span", {class: "x-score"}, number(score))]));
    list.replaceChildren(make("fieldset", {}, make("legend", {}, "Heatmap, with the joint’s score"),
      entry("all", "all joints"), entry("none", "none"),
      ...data.joints.map((joint, j) => entry(String(j), joint, person.points[j][2]))));
  }

  let asked = 0;
  async function choose(person) {
    const mine = ++asked, found = await Promise.all([loaded(data.photos[person]), unpack(data.people[person].maps)]);
    if (mine !== asked) return;  // another person was chosen meanwhile
    [image, maps] = found;
    state.person = person;
    about.textContent = data.people[person].about;
    joints();
    show();
  }
  photo.addEventListener("click", event => {  // the nearest joint's map
    const box = photo.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * width;
    const y = (event.clientY - box.top) / box.height * height;
    const away = data.people[state.person].points.map(point => Math.hypot(point[0] - x, point[1] - y));
    const near = away.indexOf(Math.min(...away));
    state.map = away[near] < width / 10 ? String(near) : "all";
    list.querySelector(`input[value="${state.map}"]`).checked = true;
    show();
  });
  const people = data.people.map((person, k) => ({value: String(k), text: person.name, group: person.group}));
  host.classList.add("x-explorer");
  host.append(make("div", {class: "x-poses"}, make("div", {class: "x-photo"}, photo, about), make("div", {class: "x-panel"},
    choice("Person", people, "0", value => choose(+value)),
    slider("Score threshold", {min: 0, max: 1, step: .01}, state.threshold, number,
      value => { state.threshold = value; show() }),
    tick("Annotated joints (crosses)", false, value => { state.truth = value; show() }), list, said)));
  await choose(0);
}
