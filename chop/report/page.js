"use strict";
(() => {
  // Theme: the system's, until the button says otherwise.
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const asked = new URLSearchParams(location.search).get("theme");
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  if (asked === "dark" || asked === "light") root.dataset.theme = asked;
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  name();

  // What marks say: their <title>, shown as a table at the pointer or at the focus.
  const tip = document.getElementById("tip");
  const texts = new WeakMap();
  for (const mark of document.querySelectorAll(".mark")) {
    const title = mark.querySelector(":scope > title");
    if (!title) continue;
    texts.set(mark, title.textContent);
    if (!mark.closest("a")) mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", title.textContent.replace(/\n/g, ", "));
    title.remove();
  }
  const add = (parent, tag, text) => {
    const child = document.createElement(tag);
    child.textContent = text;
    parent.append(child);
    return child;
  };
  const show = (mark, x, y) => {
    const [head, ...lines] = texts.get(mark).split("\n");
    tip.replaceChildren();
    add(tip, "b", head);
    const list = add(tip, "dl", "");
    for (const line of lines) {
      const cut = line.indexOf(": ");
      if (cut < 0) { add(list, "p", line); continue; }
      add(list, "dt", line.slice(0, cut));
      add(list, "dd", line.slice(cut + 2));
    }
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = x + 14 + width > innerWidth - 8 ? x - width - 14 : x + 14;
    const top = y + 14 + height > innerHeight - 8 ? y - height - 14 : y + 14;
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  };
  const hide = () => { tip.hidden = true; };
  const beside = (mark) => {
    const box = mark.getBoundingClientRect();
    show(mark, box.right - 6, box.bottom - 6);
  };
  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest?.(".mark");
    if (mark && texts.has(mark)) show(mark, event.clientX, event.clientY); else hide();
  });
  document.addEventListener("focusin", (event) => {
    const mark = event.target.closest?.(".mark");
    if (mark && texts.has(mark)) beside(mark); else hide();
  });
  document.addEventListener("scroll", () => {
    // Reaching a mark with the Tab key scrolls to it: what it says goes along.
    const mark = document.activeElement?.closest?.(".mark");
    if (mark && texts.has(mark) && mark.matches(":focus-visible")) beside(mark); else hide();
  }, { capture: true, passive: true });

  // Charts: one stop of the Tab key each, arrows from mark to mark.
  for (const svg of document.querySelectorAll("svg.chart")) {
    const marks = [...svg.querySelectorAll(".mark")].filter((mark) => texts.has(mark));
    if (!marks.length) continue;
    svg.setAttribute("role", "group");
    svg.tabIndex = 0;
    let at = -1;
    const go = (to) => {
      marks[at]?.classList.remove("on");
      at = (to + marks.length) % marks.length;
      marks[at].classList.add("on");
      beside(marks[at]);
    };
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step) { event.preventDefault(); go(at + (at < 0 && step < 0 ? 0 : step)); }
      if (event.key === "Escape") hide();
    });
    svg.addEventListener("blur", () => { marks[at]?.classList.remove("on"); at = -1; hide(); });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // What the graph's nodes are coloured by.
  for (const group of document.querySelectorAll(".choose")) {
    group.hidden = false;
    const graph = group.closest("figure").querySelector("svg.graph");
    for (const choice of group.querySelectorAll("button")) {
      choice.addEventListener("click", () => {
        graph.dataset.by = choice.dataset.by;
        for (const other of group.querySelectorAll("button")) {
          other.setAttribute("aria-pressed", String(other === choice));
        }
      });
    }
  }

  // A graph that is wider than its place is shown from the middle.
  for (const graph of document.querySelectorAll("svg.graph")) {
    const place = graph.parentElement;
    place.scrollLeft = (place.scrollWidth - place.clientWidth) / 2;
  }

  // Tables: a head sorts, the largest number or the first word on top.
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    const value = (row, i) => {
      const cell = row.cells[i], sort = cell.dataset.sort;
      return sort === undefined ? cell.textContent.trim() : Number(sort);
    };
    heads.forEach((head, i) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.textContent = head.textContent;
      head.replaceChildren(sorter);
      sorter.addEventListener("click", () => {
        const number = head.classList.contains("number");
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : number;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => {
          const x = value(a, i), y = value(b, i);
          const order = typeof x === "number" && typeof y === "number"
            ? x - y
            : typeof x === typeof y ? String(x).localeCompare(String(y)) : typeof x === "number" ? 1 : -1;
          return down ? -order : order;
        });
        body.append(...rows);
      });
    });
  }
})();
