/* Sorting: descending, ascending, original order. Rows without a value come last, means stay below. */
(function () {
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
})();
