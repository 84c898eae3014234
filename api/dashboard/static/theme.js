// Light, dark, or as the system has it: before the first paint, so that nothing flashes.
(() => {
  const themes = ["auto", "light", "dark"];
  const kept = () => { try { return localStorage.getItem("theme") ?? "auto"; } catch { return "auto"; } };
  const show = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    for (const name of document.querySelectorAll("[data-theme-name]")) name.textContent = theme;
  };
  show(kept());
  addEventListener("DOMContentLoaded", () => {
    show(kept());
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.addEventListener("click", () => {
        const next = themes[(themes.indexOf(kept()) + 1) % themes.length];
        try { localStorage.setItem("theme", next); } catch { /* it lasts as long as this page */ }
        show(next);
        dispatchEvent(new Event("themechange"));
      });
    }
  });
})();
