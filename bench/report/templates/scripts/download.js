/* Download of what a table shows: its visible rows and columns, in their order. */
(function () {
  const isShown = (node) => !node.classList.contains("off") && !node.classList.contains("unshown");
  const textOf = (node) => {
    const copy = node.cloneNode(true);
    copy.querySelectorAll("sup, .hidden-text, .sign").forEach((part) => part.remove());
    return copy.textContent.trim();
  };
  const number = (text) => (text === undefined || text === "" ? null : Number(text));

  /* A row per line: records keep the names of their fields. */
  const listed = (table) => {
    const heads = Array.from(table.tHead.rows[0].cells);
    const columns = heads.map((head, i) => [head.dataset.key, i]).filter(([key, i]) => key && isShown(heads[i]));
    const rows = Array.from(table.tBodies).flatMap((body) => Array.from(body.rows)).filter(isShown);
    const valueOf = (cell, i) => {
      if (cell.dataset.sort !== undefined) { return Number(cell.dataset.sort); }
      if (heads[i].classList.contains("text")) { return textOf(cell); }
      return cell.classList.contains("none") ? null : Number(textOf(cell));
    };
    return rows.map((row) => {
      const missing = columns.filter(([, i]) => row.cells[i].classList.contains("none"));
      return {
        domain: row.dataset.domain,
        ...Object.fromEntries(columns.map(([key, i]) => [key, valueOf(row.cells[i], i)])),
        undefined: missing.map(([key, i]) => `${key}: ${row.cells[i].title}`).join("; "),
      };
    });
  };

  /* A row per number: a table of a metric has methods on one side and datasets on the other. */
  const tidy = (table) => {
    const block = table.closest(".result");
    const heads = Array.from(table.tHead.rows[0].cells);
    const rows = Array.from(table.tBodies).filter((body) => !body.classList.contains("heading"))
      .flatMap((body) => Array.from(body.rows)).filter(isShown);
    return rows.flatMap((row) => heads.slice(1).filter(isShown).map((head) => {
      const cell = row.cells[head.cellIndex];
      const [method, dataset] = row.dataset.method !== undefined ? [row.cells[0], head] : [head, row.cells[0]];
      const about = row.dataset.method !== undefined ? head : row;
      return {
        metric: block.dataset.metric, track: block.dataset.track, domain: about.dataset.domain,
        dataset: textOf(dataset), method: textOf(method), percent: number(cell.dataset.sort),
        low: number(cell.dataset.low), high: number(cell.dataset.high), printed: number(cell.dataset.printed),
        mark: cell.classList.contains("best") ? "best" : cell.classList.contains("near") ? "not distinguishable from the best" : "",
      };
    }));
  };

  /* A spreadsheet takes no text for a formula. */
  const field = (value) => {
    if (value === null || value === undefined) { return ""; }
    const text = typeof value === "string" && /^[=+\-@\t\r\n]/.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (rows) => {
    const keys = rows.length ? Object.keys(rows[0]) : [];
    return [keys, ...rows.map((row) => keys.map((key) => row[key]))].map((line) => line.map(field).join(",")).join("\r\n") + "\r\n";
  };

  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  document.querySelectorAll("[data-save]").forEach((button) => button.addEventListener("click", () => {
    const block = button.closest(".result") || button.closest("section");
    const table = block.querySelector("table");
    const rows = block.classList.contains("result") ? tidy(table) : listed(table);
    const stem = `${document.querySelector("h1").textContent.trim()}-${block.dataset.metric || "records"}`.replace(/[^\w.-]+/g, "-");
    if (button.dataset.save === "json") {
      save(`${stem}.json`, "application/json", JSON.stringify(rows, null, 1) + "\n");
    } else {
      save(`${stem}.csv`, "text/csv", csv(rows));
    }
  }));
})();
