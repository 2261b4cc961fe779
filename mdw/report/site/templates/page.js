(() => {
  "use strict";
  const root = document.documentElement, theme = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const press = () => theme.setAttribute("aria-pressed", String(dark()));
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("mdw-theme", root.dataset.theme) } catch {}
    press();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", press);
  press();

  // A column sorts by data-sort where a cell has one, else by its text; cells without a value stay at the end.
  const key = (row, column) => {
    const cell = row.cells[column], text = cell.dataset.sort ?? cell.textContent.trim(), number = Number(text);
    return cell.classList.contains("none") || text === "" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), "en", {numeric: true});
  for (const header of document.querySelectorAll("th[aria-sort]")) {
    header.querySelector("button").addEventListener("click", () => {
      const up = header.getAttribute("aria-sort") !== "ascending", body = header.closest("table").tBodies[0];
      for (const other of header.parentElement.cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map(row => [key(row, header.cellIndex), row]);
      rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : up ? compare(a, b) : compare(b, a));
      body.append(...rows.map(([, row]) => row));
    });
  }

  // The list of reports closes by Escape, and by a click or the focus elsewhere.
  const menu = document.querySelector("details.menu");
  const shut = event => { if (menu?.open && !menu.contains(event.target)) menu.open = false };
  for (const kind of ["click", "focusin"]) document.addEventListener(kind, shut);
  menu?.addEventListener("keydown", event => {
    if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus() }
  });

  // The search field is on every page, what it finds on the index, which holds the words of all pages.
  const form = document.getElementById("search"), field = document.getElementById("q");
  form.hidden = false;
  form.addEventListener("submit", event => {
    event.preventDefault();
    if (form.dataset.root) location.href = `${form.dataset.root}index.html#q=${encodeURIComponent(field.value)}`;
  });
  document.addEventListener("keydown", event => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    field.focus();
    field.select();
  });

  // Which part of the page is being read, for the list of contents in the margin.
  const links = new Map([...document.querySelectorAll(".contents a")].map(link => [link.hash.slice(1), link]));
  const heads = [...links.keys()].map(id => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    const now = heads.findLast(head => head.getBoundingClientRect().top < innerHeight / 3);
    for (const [id, link] of links) id === now?.id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  };
  if (heads.length) addEventListener("scroll", mark, {passive: true}), mark();
})();
