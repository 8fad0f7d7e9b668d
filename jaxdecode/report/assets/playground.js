// The playground: other settings on one step, recomputed while a slider moves.

const BARS = 16;
const play = {
  settings: Object.fromEntries(DATA.knobs.map(knob => [knob.name, knob.value])),
  order: [...DATA.order],
};
const knobs = Object.fromEntries(DATA.knobs.map(knob => [knob.name, knob]));
const knobList = make('ol', { id: 'knobs', 'aria-label': 'Links, first to act first' });
const bars = make('div', { id: 'bars' });
const summary = make('div', { id: 'summary', 'aria-live': 'polite' });
let dragged = null;

function numeral(value) {
  return String(Math.round(value * 1e6) / 1e6);
}

function knobRow(name) {
  const knob = knobs[name];
  const at = knob.values.indexOf(play.settings[name]);
  const output = make('output', {}, '');
  const slider = make('input', { type: 'range', id: `knob-${name}`, min: 0,
    max: knob.values.length - 1, step: 1, value: at });
  const show = () => {
    const value = play.settings[name];
    const off = value === knob.neutral;
    output.textContent = off ? `${numeral(value)} (off)` : numeral(value);
    slider.setAttribute('aria-valuetext', output.textContent);
    row.classList.toggle('off', off);
  };
  slider.addEventListener('input', () => {
    play.settings[name] = knob.values[Number(slider.value)];
    show();
    showPlayground(selected);
  });
  const move = (by, sign) => make('button', { type: 'button', 'data-move': by,
    'aria-label': `Move ${knob.label} ${by < 0 ? 'up' : 'down'}`,
    onclick: () => shift(name, by, sign) }, sign);
  const row = make('li', { 'data-knob': name, draggable: 'true' },
    make('span', { class: 'grip', 'aria-hidden': 'true' }, '⠿'),
    make('label', { for: `knob-${name}`, title: knob.help }, knob.label), slider, output,
    make('span', { class: 'moves' }, move(-1, '↑'), move(1, '↓')));
  slider.addEventListener('keydown', event => {
    if (!event.altKey || !['ArrowUp', 'ArrowDown'].includes(event.key)) return;
    event.preventDefault();
    shift(name, event.key === 'ArrowUp' ? -1 : 1);
  });
  slider.addEventListener('pointerdown', () => { row.draggable = false; });
  slider.addEventListener('pointerup', () => { row.draggable = true; });
  listenToDrag(row, name);
  show();
  return row;
}

function listenToDrag(row, name) {
  row.addEventListener('dragstart', event => {
    dragged = name;
    event.dataTransfer.setData('text/plain', name);
    event.dataTransfer.effectAllowed = 'move';
    row.classList.add('dragged');
  });
  row.addEventListener('dragover', event => {
    if (dragged === null) return;
    event.preventDefault();
    if (dragged !== name) putBefore(dragged, play.order.indexOf(name));
  });
  row.addEventListener('drop', event => event.preventDefault());
  row.addEventListener('dragend', () => {
    dragged = null;
    showKnobs();
  });
}

function putBefore(name, place) {
  const order = play.order.filter(other => other !== name);
  order.splice(place, 0, name);
  reorder(order);
}

function shift(name, by, sign) {
  const place = play.order.indexOf(name) + by;
  if (place < 0 || place >= play.order.length) return;
  putBefore(name, place);
  const row = knobList.querySelector(`[data-knob="${name}"]`);
  const target = sign ? row.querySelector(`[data-move="${by}"]`) : row.querySelector('input');
  target.focus();
}

// Rows are moved, not made again: a row that is being dragged must stay in the page.
function reorder(order) {
  play.order = order;
  for (const name of order) knobList.append(knobList.querySelector(`[data-knob="${name}"]`));
  markPreset();
  showPlayground(selected);
}

function showKnobs() {
  knobList.replaceChildren(...play.order.map(knobRow));
}

function markPreset() {
  for (const button of document.querySelectorAll('[data-preset]')) {
    const same = DATA.presets[button.dataset.preset].join() === play.order.join();
    button.setAttribute('aria-pressed', String(same));
  }
}

function reset() {
  Object.assign(play.settings, Object.fromEntries(DATA.knobs.map(knob => [knob.name, knob.value])));
  play.order = [...DATA.order];
  showKnobs();
  markPreset();
  showPlayground(selected);
}

function presetButtons() {
  return make('div', { class: 'presets', role: 'group', 'aria-label': 'Order of the links' },
    make('span', {}, 'Order:'),
    ...Object.entries(DATA.presets).map(([name, order]) => make('button', {
      type: 'button', 'data-preset': name, onclick: () => reorder([...order]) }, name)),
    make('button', { type: 'button', id: 'reset', onclick: reset }, 'Reset'));
}

function openPlayground() {
  const remarks = [];
  if (DATA.base.length) remarks.push(`Begins after ${DATA.base.join(', ')}.`);
  if (DATA.left_out.length) remarks.push(`Leaves out ${DATA.left_out.join(', ')}.`);
  document.getElementById('playground').replaceChildren(
    make('p', { class: 'hint' }, 'Other settings on this step, from its stored logits. Drag a link, or press Alt with an arrow key, to change the order. ', ...remarks),
    presetButtons(), knobList, summary, bars);
  showKnobs();
  markPreset();
}

function bar(name, before, after, drawnHere) {
  const one = (kind, p) => {
    const fill = make('i', { class: kind });
    fill.style.width = `${100 * p}%`;
    return make('span', { class: 'track' }, fill);
  };
  return make('div', { class: `bar-row${after > 0 ? '' : ' dropped'}${drawnHere ? ' drawn' : ''}` },
    make('span', { class: 'name' }, name),
    make('span', { class: 'tracks' }, one('before', before), one('after', after)),
    make('span', { class: 'number' }, `${percent(before)} → ${percent(after)}`));
}

function showPlayground(t) {
  const before = compute(t, NEUTRAL, []);
  const after = compute(t, play.settings, play.order);
  const now = new Map(after.ids.map((id, i) => [id, after.probs[i]]));
  const first = new Map(before.ids.map((id, i) => [id, before.probs[i]]));
  const winner = drawn(t, after);
  const shown = [...new Set([...before.ids.slice(0, BARS), ...after.ids.slice(0, 4), winner])]
    .filter(id => id !== null).sort((a, b) => first.get(b) - first.get(a));
  const rows = shown.map(id => bar(token(id), first.get(id), now.get(id) || 0, id === winner));
  rows.push(bar('all other tokens',
    Math.max(0, 1 - shown.reduce((sum, id) => sum + first.get(id), 0)),
    Math.max(0, 1 - shown.reduce((sum, id) => sum + (now.get(id) || 0), 0)), false));
  bars.replaceChildren(
    make('p', { class: 'key' }, make('i', { class: 'before' }), ' before ', make('i', { class: 'after' }), ' after; the framed token is what this seed draws'),
    ...rows);
  const aside = after.tail > 1e-6 ? ` (unless one of the tail wins: ${percent(after.tail)})` : '';
  summary.replaceChildren(
    make('p', {}, `${count(after.kept)} ${after.kept === 1 ? 'token is' : 'tokens are'} left, entropy ${before.entropy.toFixed(3)} → ${after.entropy.toFixed(3)} nats. The seed draws `,
      winner === null ? '–' : token(winner), `${aside}.`),
    ...after.notes.map(note => make('p', { class: 'warning' }, note)));
}
