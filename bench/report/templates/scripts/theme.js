"use strict";
/* The reader's choice of light or dark is stored where the browser allows it. */
(function () {
  const root = document.documentElement;
  root.classList.add("js");
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
})();
