// The page as a whole: what it is about, light and dark, and the first step.

function showAbout() {
  const items = { Model: DATA.model, Sampler: DATA.sampler, Seed: DATA.seed,
    Tokens: `${DATA.prompt.length} + ${DATA.tokens.length}, ended by ${DATA.status}` };
  document.getElementById('about').replaceChildren(...Object.entries(items)
    .map(([name, value]) => fact(name, visible(value))));
}

function listenToTheme() {
  const button = document.getElementById('theme');
  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === 'dark'
    : matchMedia('(prefers-color-scheme: dark)').matches;
  const show = () => {
    button.setAttribute('aria-pressed', String(dark()));
    button.textContent = dark() ? 'Light' : 'Dark';
  };
  button.addEventListener('click', () => {
    root.dataset.theme = dark() ? 'light' : 'dark';
    show();
  });
  show();
}

showAbout();
listenToTheme();
showLegend();
showText();
showStrip();
openPlayground();
listenToText();
showVariants();
showBeams();
select(0);

// For whoever wants the numbers: the console, a notebook, a test.
window.decodingReport = { data: DATA, compute, noiseOf, drawn };
