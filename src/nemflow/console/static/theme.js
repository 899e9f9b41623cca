// Light or dark, before the first paint: as chosen, else as the system says.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const chosen = localStorage.getItem("nemflow-theme");
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
  };
  apply();
  system.addEventListener("change", apply);
  window.nemflowTheme = () => {
    const dark = document.documentElement.dataset.theme === "dark";
    localStorage.setItem("nemflow-theme", dark ? "light" : "dark");
    apply();
  };
})();
