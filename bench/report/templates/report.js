"use strict";
(function () {
  const root = document.documentElement;
  root.classList.add("js");

  /* Theme: the reader's choice is stored where the browser allows it. */
  const toggle = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("zsad-theme"); } catch (error) { return null; } };
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
  const stored = remembered();
  if (stored === "dark" || stored === "light") { root.dataset.theme = stored; }
  label();
  system.addEventListener("change", label);
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("zsad-theme", root.dataset.theme); } catch (error) { /* private mode */ }
    label();
  });

  /* Sorting: descending, ascending, original order. Rows without a value come last, means stay below. */
  const keyOf = (cell, text) => {
    if (text) { return cell.textContent.trim().toLowerCase(); }
    const value = cell.dataset.sort !== undefined ? cell.dataset.sort : cell.textContent.trim();
    return value === "" || Number.isNaN(Number(value)) ? null : Number(value);
  };
  const compare = (a, b, sign) => {
    if (a === null || b === null) { return a === b ? 0 : a === null ? 1 : -1; }
    return sign * (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  };
  const sortBody = (body, column, text, sign) => {
    const rows = Array.from(body.rows);
    rows.forEach((row, i) => { if (row.dataset.place === undefined) { row.dataset.place = i; } });
    const place = (row) => Number(row.dataset.place);
    const summary = (row) => Number(row.classList.contains("summary"));
    const keys = new Map(rows.map((row) => [row, sign ? keyOf(row.cells[column], text) : null]));
    rows.sort((a, b) => summary(a) - summary(b) || compare(keys.get(a), keys.get(b), sign) || place(a) - place(b));
    body.append(...rows);
  };
  document.querySelectorAll("table[data-sortable]").forEach((table) => {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      if (head.classList.contains("bare")) { return; }
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const text = head.classList.contains("text");
        const order = text ? ["ascending", "descending"] : ["descending", "ascending"];
        const next = order[order.indexOf(head.getAttribute("aria-sort")) + 1];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) { head.setAttribute("aria-sort", next); }
        const sign = next === "ascending" ? 1 : next === "descending" ? -1 : 0;
        Array.from(table.tBodies).filter((body) => !body.classList.contains("heading"))
          .forEach((body) => sortBody(body, column, text, sign));
      });
    });
  });

  /* Filtering: what belongs to another domain, dataset or method is hidden. */
  const selects = Array.from(document.querySelectorAll("select[data-filter]"));
  const tagged = Array.from(document.querySelectorAll("main [data-domain], main [data-dataset], main [data-method]"));
  const clear = document.getElementById("clear");
  const domains = new Map();
  tagged.forEach((node) => { if (node.dataset.dataset && node.dataset.domain) { domains.set(node.dataset.dataset, node.dataset.domain); } });
  const filter = () => {
    const wanted = {};
    selects.forEach((select) => { wanted[select.dataset.filter] = select.value; });
    tagged.forEach((node) => {
      const own = node.dataset;
      let off = ["domain", "dataset", "method"].some((name) => wanted[name] && own[name] !== undefined && own[name] !== wanted[name]);
      /* What is about a whole domain is hidden when a dataset of another domain is chosen. */
      if (wanted.dataset && own.dataset === undefined && own.domain !== undefined) {
        off = off || own.domain !== domains.get(wanted.dataset) || node.classList.contains("summary");
      }
      node.classList.toggle("off", off);
    });
    document.querySelectorAll("table[data-counted]").forEach((table) => {
      const count = table.closest("section").querySelector("[data-count]");
      count.textContent = table.querySelectorAll("tbody tr:not(.off)").length;
    });
    clear.disabled = selects.every((select) => !select.value);
  };
  selects.forEach((select) => select.addEventListener("change", filter));
  clear.addEventListener("click", () => {
    selects.forEach((select) => { select.value = ""; });
    filter();
  });
  filter();
})();
