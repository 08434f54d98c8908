/* The gallery: a threshold over the maps, and one image enlarged. */
(function () {
  const gallery = document.getElementById("gallery");
  if (!gallery) { return; }
  const slider = document.getElementById("threshold");
  const shown = document.getElementById("threshold-value");
  const box = document.getElementById("lightbox");
  const content = document.getElementById("lightbox-content");
  const rows = Array.from(gallery.querySelectorAll(".image-row"));
  const FOUND = [63, 160, 232], ALARM = [240, 120, 40], MISSED = [255, 255, 255];
  const levelOf = new Map();
  (gallery.dataset.colours.match(/.{6}/g) || []).forEach((hex, level) => levelOf.set(parseInt(hex, 16), level));
  let place = -1;

  const pixels = (image, side) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, side, side);
    return context.getImageData(0, 0, side, side).data;
  };

  /* What of a pixel is found, missed or reported for nothing, over the image in grey. */
  const colourAt = (p, picture, mask, hit) => {
    const grey = 0.75 * (picture[p] + picture[p + 1] + picture[p + 2]) / 3;
    const anomalous = mask[p] > 200;
    if (hit) { return anomalous ? FOUND : ALARM; }
    return anomalous && (p / 4) % 3 === 0 ? MISSED : [grey, grey, grey];
  };

  const cut = (map, row, step) => {
    const side = map.naturalWidth;
    const level = Number(map.dataset.levels.split(",")[step - 1]);
    const own = pixels(map, side);
    const picture = pixels(row.querySelector("img.picture"), side);
    const mask = pixels(row.querySelector("img.mask"), side);
    const canvas = map.nextElementSibling.tagName === "CANVAS" ? map.nextElementSibling : document.createElement("canvas");
    canvas.className = "cut";
    canvas.width = canvas.height = side;
    canvas.setAttribute("aria-hidden", "true");
    const context = canvas.getContext("2d");
    const out = context.createImageData(side, side);
    for (let p = 0; p < own.length; p += 4) {
      const found = levelOf.get((own[p] << 16) | (own[p + 1] << 8) | own[p + 2]);
      out.data.set([...colourAt(p, picture, mask, found >= level), 255], p);
    }
    context.putImageData(out, 0, 0);
    map.after(canvas);
  };

  /* Only what is in sight is drawn: folded groups are when they unfold. */
  const redraw = (row) => {
    const step = Number(slider.value);
    row.querySelectorAll("canvas.cut").forEach((canvas) => { if (!step) { canvas.remove(); } });
    if (!step || !row.getClientRects().length) { return; }
    const images = Array.from(row.querySelectorAll("img"));
    images.forEach((image) => { image.loading = "eager"; });
    Promise.all(images.map((image) => image.decode())).then(() => {
      if (Number(slider.value) === step) { row.querySelectorAll("img.map").forEach((map) => cut(map, row, step)); }
    }).catch(() => { /* a broken picture stays as it is */ });
  };
  const redrawAll = () => {
    const step = Number(slider.value);
    const rate = slider.dataset.rates.split(",")[step - 1];
    shown.textContent = step ? `${rate} % of normal pixels` : "off";
    slider.setAttribute("aria-valuetext", shown.textContent);
    gallery.classList.toggle("is-cut", step > 0);
    rows.forEach(redraw);
    if (box.open) { content.querySelectorAll(".image-row").forEach(redraw); }
  };
  if (slider) {
    slider.addEventListener("input", redrawAll);
    gallery.querySelectorAll("details.group").forEach((group) => group.addEventListener("toggle", redrawAll));
  }

  const enlarge = (index) => {
    const visible = rows.filter((row) => row.getClientRects().length);
    if (!visible.length) { return; }
    place = (index + visible.length) % visible.length;
    const copy = visible[place].cloneNode(true);
    copy.querySelectorAll("canvas.cut, .enlarge").forEach((node) => node.remove());
    copy.querySelectorAll("img").forEach((image) => { image.loading = "eager"; });
    content.replaceChildren(copy);
    if (!box.open) { box.showModal(); }
    redraw(copy);
  };
  const indexOf = (row) => rows.filter((other) => other.getClientRects().length).indexOf(row);
  rows.forEach((row) => {
    row.querySelector(".enlarge").addEventListener("click", () => enlarge(indexOf(row)));
    row.querySelectorAll("img").forEach((image) => image.addEventListener("click", () => enlarge(indexOf(row))));
  });
  document.getElementById("lightbox-previous").addEventListener("click", () => enlarge(place - 1));
  document.getElementById("lightbox-next").addEventListener("click", () => enlarge(place + 1));
  document.getElementById("lightbox-close").addEventListener("click", () => box.close());
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") { enlarge(place - 1); }
    if (event.key === "ArrowRight") { enlarge(place + 1); }
  });
  box.addEventListener("click", (event) => { if (event.target === box) { box.close(); } });
})();
