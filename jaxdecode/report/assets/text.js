// The text: tokens in colour, one of them selected; pointer, keyboard and the strip.

const textBox = document.getElementById('text');
const glanceBox = document.getElementById('glance');
const spans = [];
let selected = 0;

function coloured(id, p, attributes) {
  const words = wordOf(id);
  const kind = `t b${bandOf(p)}${SPECIAL.has(id) ? ' special' : ''}`;
  return make('span', { class: kind, ...attributes }, words === '' ? '∅' : words);
}

function breaksLine(id) {
  return WORDS.has(id) && WORDS.get(id).includes('\n');
}

function showLegend() {
  const names = ['90 % or more', '50 to 90 %', '20 to 50 %', '5 to 20 %', '1 to 5 %', 'below 1 %'];
  document.getElementById('legend').replaceChildren(
    ...names.map((name, band) => make('span', { class: `t b${band}` }, name)));
}

function showText() {
  const prompt = make('span', { class: 'prompt', title: 'the prompt' },
    ...DATA.prompt.flatMap(id => [make('bdi', {}, wordOf(id)), ...(breaksLine(id) ? [make('br')] : [])]));
  textBox.replaceChildren(prompt);
  DATA.tokens.forEach((id, t) => {
    const p = chanceOf(t);
    const span = coloured(id, p, {
      role: 'button', tabindex: '-1', 'data-step': t,
      'aria-label': `step ${t + 1}, ${wordOf(id) || 'empty'}, probability ${percent(p)}`,
    });
    spans.push(span);
    textBox.append(span, ...(breaksLine(id) ? [make('br')] : []));
  });
}

function select(t, focus = false) {
  spans[selected].tabIndex = -1;
  spans[selected].removeAttribute('aria-current');
  selected = Math.min(Math.max(t, 0), spans.length - 1);
  spans[selected].tabIndex = 0;
  spans[selected].setAttribute('aria-current', 'true');
  if (focus) spans[selected].focus();
  showDetails(selected);
  showPlayground(selected);
  markStrip();
}

const MOVES = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10, Home: -1e9, End: 1e9 };

function stepOf(event) {
  const span = event.target.closest('[data-step]');
  return span ? Number(span.dataset.step) : null;
}

function hideGlance() {
  glanceBox.hidden = true;
}

function showGlance(t) {
  glanceBox.replaceChildren(...glance(t));
  glanceBox.hidden = false;
  const at = spans[t].getBoundingClientRect();
  const width = glanceBox.offsetWidth, height = glanceBox.offsetHeight;
  const left = Math.min(Math.max(8, at.left), Math.max(8, innerWidth - width - 8));
  const below = at.bottom + 6;
  const top = below + height < innerHeight ? below : Math.max(8, at.top - height - 6);
  glanceBox.style.left = `${left}px`;
  glanceBox.style.top = `${top}px`;
}

function listenToText() {
  textBox.addEventListener('click', event => {
    const t = stepOf(event);
    if (t !== null) select(t, true);
  });
  textBox.addEventListener('focusin', event => {
    const t = stepOf(event);
    if (t !== null && t !== selected) select(t);
  });
  textBox.addEventListener('pointerover', event => {
    const t = stepOf(event);
    if (t === null || event.pointerType === 'touch') hideGlance();
    else showGlance(t);
  });
  textBox.addEventListener('pointerleave', hideGlance);
  addEventListener('scroll', hideGlance, { passive: true });
  textBox.addEventListener('keydown', event => {
    if (event.key === 'Escape') return hideGlance();
    if (!(event.key in MOVES) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    hideGlance();
    select(selected + MOVES[event.key], true);
  });
}

// The entropy of the model at every step, as a line over the text's length.
const STRIP = { width: 1000, height: 60 };

function showStrip() {
  const svg = document.getElementById('strip');
  svg.setAttribute('viewBox', `0 0 ${STRIP.width} ${STRIP.height}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  const values = DATA.tokens.map((_, t) => ofLink('entropy', t, 0));
  const most = Math.max(1, ...values);
  const wide = STRIP.width / values.length;
  const bars = values.map((value, t) => {
    const tall = Math.max(1, value / most * (STRIP.height - 4));
    const bar = draw('rect', { x: t * wide, y: STRIP.height - tall, height: tall,
      width: Math.max(wide * 0.85, 0.5) });
    bar.append(draw('title', {}, `step ${t + 1}: ${value.toFixed(2)} nats`));
    bar.addEventListener('click', () => select(t));
    return bar;
  });
  svg.replaceChildren(...bars);
}

function markStrip() {
  const bars = document.getElementById('strip').children;
  for (const bar of bars) bar.removeAttribute('class');
  if (bars[selected]) bars[selected].setAttribute('class', 'here');
}
