// What every part of the page needs: the data, its arrays, elements, text made visible.

const DATA = JSON.parse(document.getElementById('data').textContent);

const ARRAYS = { f4: Float32Array, i4: Int32Array, u4: Uint32Array, u2: Uint16Array };

function unpack(packed) {
  const raw = atob(packed.bytes);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new ARRAYS[packed.kind](bytes.buffer);
}

const STEPS = {};
for (const [name, packed] of Object.entries(DATA.steps)) STEPS[name] = unpack(packed);

const WORDS = new Map(DATA.vocabulary.ids.map((id, i) => [id, DATA.vocabulary.texts[i]]));
const SPECIAL = new Set(DATA.vocabulary.special);

// Text is only ever set as text: nothing of a prompt or a token becomes markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.map(child => child instanceof Node ? child : String(child)));
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

// Control characters, marks of direction and lone surrogates become what they are called.
function visible(text) {
  return text.replace(HIDDEN, sign => {
    if (sign === '\n') return '↵';
    if (sign === '\t') return '⇥';
    return 'U+' + sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');
  });
}

function wordOf(id) {
  return WORDS.has(id) ? visible(WORDS.get(id)) : `#${id}`;
}

// A token by itself: its spaces are marked, and it cannot turn its neighbours around.
function token(id) {
  const text = wordOf(id).replace(/ /g, '␣');
  const kind = SPECIAL.has(id) ? 'token special' : 'token';
  return make('bdi', { class: kind, title: `token ${id}` }, text === '' ? '∅' : text);
}

function percent(p) {
  if (!(p > 1e-12)) return p >= 0 ? '0' : '–';
  if (p >= 0.9995) return p === 1 ? '100 %' : (100 * p).toFixed(2) + ' %';
  if (p >= 0.001) return (100 * p).toFixed(p >= 0.1 ? 1 : 2) + ' %';
  return (100 * p).toExponential(1) + ' %';
}

function count(n) {
  return n.toLocaleString('en').replace(/,/g, '\u202f');
}

const BANDS = [0.9, 0.5, 0.2, 0.05, 0.01];

function bandOf(p) {
  const band = BANDS.findIndex(low => p >= low);
  return band < 0 ? BANDS.length : band;
}
