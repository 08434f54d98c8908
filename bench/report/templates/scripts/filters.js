/* Filters: what belongs to another domain, dataset, method or metric is hidden. They live in the URL,
   behind the section: #tables?dataset=VisA,BTAD&metric=pixel_pro */
(function () {
  const KINDS = ["domain", "dataset", "method", "metric"];
  const boxes = Array.from(document.querySelectorAll(".menu input"));
  const menus = Array.from(document.querySelectorAll(".menu"));
  const clear = document.getElementById("clear");
  const nothing = document.getElementById("nothing");
  const status = document.getElementById("filter-status");
  const buttons = Array.from(document.querySelectorAll("[data-metric-button]"));
  const others = document.getElementById("other-metric");
  const selector = KINDS.map((kind) => `main [data-${kind}]`).join(",");
  const tagged = Array.from(document.querySelectorAll(selector)).filter((node) => node.tagName !== "INPUT");
  const tables = Array.from(document.querySelectorAll("table[data-columns]"));
  const domainOf = new Map();
  tagged.forEach(({ dataset: own }) => { if (own.dataset && own.domain) { domainOf.set(own.dataset, own.domain); } });
  let section = "";

  const wanted = () => {
    const found = {};
    KINDS.forEach((kind) => {
      found[kind] = new Set(boxes.filter((box) => box.name === kind && box.checked).map((box) => box.value));
    });
    return found;
  };

  /* Of what is about a whole domain only the domain of a chosen dataset stays, and no mean. */
  const isOff = (node, chosen) => {
    const own = node.dataset;
    if (KINDS.some((kind) => chosen[kind].size && own[kind] !== undefined && !chosen[kind].has(own[kind]))) { return true; }
    if (own.wholeRun !== undefined && (chosen.dataset.size || chosen.domain.size)) { return true; }
    if (!chosen.dataset.size || own.dataset !== undefined || own.domain === undefined) { return false; }
    const domains = new Set(Array.from(chosen.dataset, (name) => domainOf.get(name)));
    const isMean = node.classList.contains("summary") || node.classList.contains("card");
    return isMean || !domains.has(own.domain);
  };

  const isUnshown = (node, chosen) =>
    (node.dataset.further !== undefined && !chosen.metric.size) ||
    (node.dataset.onlyChosen !== undefined && !chosen.dataset.size);

  const isShown = (node) => !node.classList.contains("off") && !node.classList.contains("unshown");

  /* The cells of a column follow its head. */
  const applyColumns = (table) => {
    const heads = Array.from(table.tHead.rows[0].cells);
    const off = heads.map((head) => head.classList.contains("off"));
    const key = off.join();
    if (table.dataset.off === key) { return; }
    table.dataset.off = key;
    Array.from(table.tBodies).forEach((body) => Array.from(body.rows).forEach((row) => {
      if (row.cells.length === heads.length) {
        off.forEach((hidden, i) => row.cells[i].classList.toggle("off", hidden));
      }
    }));
  };

  /* Of a list that is ordered by importance the first rows that are not filtered out. */
  const applyRows = (card) => {
    const rows = Array.from(card.querySelectorAll("tbody tr")).filter((row) => !row.classList.contains("off"));
    rows.forEach((row, i) => row.classList.toggle("unshown", i >= Number(card.dataset.rows)));
    if (!rows.length) { card.classList.add("off"); }
  };

  const describe = (chosen) => {
    menus.forEach((menu) => {
      const kind = menu.dataset.menu;
      const names = boxes.filter((box) => box.name === kind && box.checked).map((box) => box.parentElement.textContent.trim());
      menu.querySelector(".chosen").textContent = names.length === 0 ? "all" : names.length === 1 ? names[0] : `${names.length} chosen`;
      menu.classList.toggle("active", names.length > 0);
    });
    const usual = tagged.find((node) => node.classList.contains("result") && isShown(node));
    buttons.forEach((button) => {
      const name = button.dataset.metricButton;
      const pressed = chosen.metric.size ? chosen.metric.has(name) : Boolean(usual) && usual.dataset.metric === name;
      button.setAttribute("aria-pressed", String(pressed));
    });
    if (others) {
      const own = Array.from(others.options, (option) => option.value).find((value) => value && chosen.metric.has(value));
      others.value = own || "";
    }
    document.documentElement.classList.toggle("metrics-chosen", chosen.metric.size > 0);
    const active = KINDS.filter((kind) => chosen[kind].size);
    clear.disabled = active.length === 0;
    status.textContent = active.length ? `Filtered by ${active.join(", ")}` : "Not filtered";
  };

  const apply = () => {
    const chosen = wanted();
    tagged.forEach((node) => {
      node.classList.toggle("off", isOff(node, chosen));
      if (node.dataset.further !== undefined || node.dataset.onlyChosen !== undefined) {
        node.classList.toggle("unshown", isUnshown(node, chosen));
      }
    });
    tables.forEach(applyColumns);
    document.querySelectorAll("[data-rows]").forEach(applyRows);
    document.querySelectorAll("table[data-counted]").forEach((table) => {
      const count = table.closest("section").querySelector("[data-count]");
      count.textContent = table.querySelectorAll("tbody tr:not(.off)").length;
    });
    const results = Array.from(document.querySelectorAll("#tables tbody:not(.heading) tr"));
    nothing.classList.toggle("off", results.length === 0 || results.some((row) => isShown(row) && isShown(row.closest(".result"))));
    describe(chosen);
  };

  const write = () => {
    const chosen = wanted();
    const query = KINDS.filter((kind) => chosen[kind].size)
      .map((kind) => `${kind}=${Array.from(chosen[kind], encodeURIComponent).join(",")}`).join("&");
    const hash = section + (query ? `?${query}` : "");
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  };

  const read = () => {
    const [place, query = ""] = location.hash.slice(1).split("?");
    section = place;
    const found = new Map(query.split("&").filter(Boolean).map((part) => part.split("=")));
    const values = (kind) => (found.get(kind) || "").split(",").filter(Boolean).map((value) => {
      try { return decodeURIComponent(value); } catch (error) { return value; }
    });
    boxes.forEach((box) => { box.checked = values(box.name).includes(box.value); });
    apply();
    const target = section && document.getElementById(section);
    if (target && query) { target.scrollIntoView(); }
  };

  const choose = (kind, values) => {
    boxes.filter((box) => box.name === kind).forEach((box) => { box.checked = values.includes(box.value); });
    apply();
    write();
  };

  boxes.forEach((box) => box.addEventListener("change", () => { apply(); write(); }));
  buttons.forEach((button) => button.addEventListener("click", () => choose("metric", [button.dataset.metricButton])));
  if (others) { others.addEventListener("change", () => choose("metric", others.value ? [others.value] : [])); }
  clear.addEventListener("click", () => {
    boxes.forEach((box) => { box.checked = false; });
    apply();
    write();
  });
  document.querySelectorAll(".bar nav a").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    section = link.getAttribute("href").slice(1);
    write();
    document.getElementById(section).scrollIntoView();
  }));
  document.addEventListener("click", (event) => {
    menus.forEach((menu) => { if (!menu.contains(event.target)) { menu.open = false; } });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") { return; }
    const open = menus.find((menu) => menu.open);
    if (open) { open.open = false; open.querySelector("summary").focus(); }
  });
  const intervals = document.getElementById("with-intervals");
  if (intervals) {
    const apply = () => document.getElementById("tables").classList.toggle("with-intervals", intervals.checked);
    intervals.addEventListener("change", apply);
    apply();
  }
  window.addEventListener("hashchange", read);
  read();
})();
