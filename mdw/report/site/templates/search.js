(() => {
  "use strict";
  // Every word typed must begin a word of the place; a word in its heading or in its report's title counts for more.
  const {reports, places} = JSON.parse(document.getElementById("words").textContent);
  const plain = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const field = document.getElementById("q"), found = document.getElementById("found");
  const count = document.getElementById("count"), list = found.querySelector("ol"), most = 30;
  const begins = (text, word) => { for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1))
    if (at === 0 || !/[\p{L}\p{N}]/u.test(text[at - 1]) || !/[\p{L}\p{N}]/u.test(word[0])) return at; return -1 };
  const ready = places.map(([report, id, heading, text], order) =>
    ({report, id, heading, text, order, title: plain(reports[report][0]), head: plain(heading), body: plain(text)}));
  const weigh = (place, words) => words.reduce((sum, word) => {
    const weight = (begins(place.head, word) >= 0) * (place.id ? 4 : 8) + (begins(place.body, word) >= 0) * 2 + (begins(place.title, word) >= 0);
    return sum && weight && sum + weight;
  }, 1);
  const make = (name, text) => Object.assign(document.createElement(name), {textContent: text ?? ""});

  // Puts the text into an element with all of the words marked.
  const mark = (out, text, words) => {
    const low = plain(text), marks = low.length !== text.length ? []  // accents taken apart: the places do not agree
      : words.flatMap(word => [...low.matchAll(new RegExp(word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "g"))]
        .map(match => [match.index, match.index + word.length])).sort((a, b) => a[0] - b[0]);
    let at = 0;
    for (const [start, end] of marks) if (start >= at) {
      out.append(text.slice(at, start), make("mark", text.slice(start, end)));
      at = end;
    }
    out.append(text.slice(at));
    return out;
  };

  // A line of the place's text around the first word that is found.
  const line = (place, words) => {
    const first = Math.min(...words.map(word => begins(place.body, word)).filter(at => at >= 0));
    const from = Number.isFinite(first) ? Math.max(0, place.text.lastIndexOf(" ", Math.max(0, first - 50)) + 1) : 0;
    const rest = place.text.slice(from), text = rest.length > 170 ? rest.slice(0, rest.lastIndexOf(" ", 170)) + " …" : rest;
    return mark(make("p"), (from ? "… " : "") + text, words);
  };

  const look = () => {
    const words = plain(field.value).split(/\s+/).filter(Boolean);
    const hits = !words.length ? [] : ready.map(place => [weigh(place, words), place]).filter(([weight]) => weight)
      .sort((a, b) => b[0] - a[0] || a[1].order - b[1].order).map(([, place]) => place);
    const pages = new Set(hits.map(hit => hit.report)).size;
    found.classList.toggle("on", words.length > 0);
    count.textContent = !words.length ? "" : !hits.length ? `Nothing is found for “${field.value.trim()}”.`
      : `${hits.length} ${hits.length === 1 ? "place" : "places"} in ${pages} ${pages === 1 ? "report" : "reports"}`
        + (hits.length > most ? `, the best ${most} shown` : "");
    list.replaceChildren(...hits.slice(0, most).map(hit => {
      const item = make("li"), link = mark(make("a"), hit.id ? hit.heading : reports[hit.report][0], words);
      link.href = reports[hit.report][1] + (hit.id ? `#${hit.id}` : "");
      item.append(link);
      if (hit.id) item.append(" ", make("cite", reports[hit.report][0]));
      item.append(line(hit, words));
      return item;
    }));
  };

  const read = () => {
    const asked = new URLSearchParams(location.hash.slice(1)).get("q");
    if (asked !== null) { field.value = asked; look() }
  };
  field.addEventListener("input", () => {
    history.replaceState(null, "", field.value ? `#q=${encodeURIComponent(field.value)}` : location.pathname);
    look();
  });
  addEventListener("hashchange", read);
  read();

  // Arrows go from the field through what is found and back; Enter in the field opens the first, Escape empties it.
  document.addEventListener("keydown", event => {
    const stops = [field, ...list.querySelectorAll("a")], at = stops.indexOf(document.activeElement);
    if (at < 0) return;
    const to = event.key === "ArrowDown" ? at + 1 : event.key === "ArrowUp" ? at - 1 : -1;
    if (stops[to]) { event.preventDefault(); stops[to].focus() }
    else if (event.key === "Enter" && at === 0 && stops[1]) { event.preventDefault(); stops[1].click() }
    else if (event.key === "Escape" && field.value) { event.preventDefault(); field.value = ""; look(); field.focus();
      history.replaceState(null, "", location.pathname) }
  });
})();
