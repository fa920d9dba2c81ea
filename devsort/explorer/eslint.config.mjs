// Rules for the script of the page; `make lint-page` checks them.

const BROWSER = [
  "Blob", "HTMLCanvasElement", "ImageData", "IntersectionObserver", "NodeFilter",
  "OffscreenCanvas", "ResizeObserver", "URL", "XMLSerializer", "atob", "clearInterval",
  "devicePixelRatio", "document", "getComputedStyle", "innerHeight", "innerWidth", "matchMedia",
  "performance",
  "requestAnimationFrame", "requestIdleCallback", "setInterval", "setTimeout", "window",
];

export default [
  {
    languageOptions: {
      sourceType: "script",
      ecmaVersion: 2023,
      globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])),
    },
    rules: {
      complexity: ["error", 12],
      eqeqeq: "error",
      "max-len": ["error", 100],
      "max-lines-per-function": ["error", 45],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-redeclare": "error",
      "no-shadow": "error",
      "no-undef": "error",
      "no-unused-vars": "error",
      "prefer-const": "error",
    },
  },
];
