// The links of the playground on one step, from what is stored of it.
//
// Stored are the best tokens and all that were seen before; the rest, the tail, is one
// bucket: how many, their bounds, and their exact mass and mean at each temperature of
// the slider. A cut that falls among the tail's tokens cannot be found from that: the
// result then keeps the whole tail and says so.

const f32 = Math.fround;
const VALUES = Object.fromEntries(DATA.knobs.map(knob => [knob.name, knob.values]));
const NEUTRAL = Object.fromEntries(DATA.knobs.map(knob => [knob.name, knob.neutral]));
const K = DATA.stored;
const COLUMNS = [...DATA.prompt, ...DATA.tokens];

// Where the values of step t that are not among the best begin.
const EXTRA_START = (() => {
  const starts = [0];
  for (let t = 0; t < DATA.tokens.length; t++) starts.push(starts[t] + extras(t).length);
  return starts;
})();

function extras(t) {
  const top = new Set(STEPS.top_ids.subarray(t * K, (t + 1) * K));
  const past = COLUMNS.slice(0, DATA.prompt.length + t);
  return [...new Set(past)].filter(id => !top.has(id));
}

function tally(ids) {
  const counts = new Map();
  for (const id of ids) counts.set(id, (counts.get(id) || 0) + 1);
  return counts;
}

function loadStep(t) {
  const prompt = DATA.prompt.length;
  const inText = tally(COLUMNS.slice(prompt, prompt + t));
  const inAll = tally(COLUMNS.slice(0, prompt + t));
  const rows = [];
  const put = (id, value, top) => {
    if (value === -Infinity) return;
    rows.push({ id, value, top, seen: inAll.has(id), count: inText.get(id) || 0 });
  };
  for (let i = 0; i < K; i++) put(STEPS.top_ids[t * K + i], STEPS.top_logits[t * K + i], true);
  extras(t).forEach((id, i) => put(id, STEPS.extra_logits[EXTRA_START[t] + i], false));
  const best = STEPS.top_logits[t * K];
  const tail = {
    alive: STEPS.tail_count[t] > 0,
    count: STEPS.tail_count[t],
    best: STEPS.tail_bounds[2 * t],
    least: STEPS.tail_bounds[2 * t + 1],
    temperature: 1,
  };
  return { t, rows, tail, best, exact: true, notes: [] };
}

function tailSums(step) {
  const at = VALUES.temperature.filter(t => t > 0).indexOf(step.tail.temperature);
  const size = VALUES.temperature.filter(t => t > 0).length;
  const scaledBest = f32(step.best / f32(step.tail.temperature));
  const mass = STEPS.tail_mass[step.t * size + at];
  return { log: mass + scaledBest, mean: STEPS.tail_mean[step.t * size + at] };
}

// Probabilities of the rows as they stand, of the tail, and their entropy.
function weigh(step) {
  const sums = step.tail.alive ? tailSums(step) : { log: -Infinity, mean: 0 };
  let best = sums.log;
  for (const row of step.rows) best = Math.max(best, row.value);
  let total = step.tail.alive ? Math.exp(sums.log - best) : 0;
  for (const row of step.rows) total += Math.exp(row.value - best);
  const norm = best + Math.log(total);
  const tail = step.tail.alive ? Math.exp(sums.log - norm) : 0;
  let mean = tail * (step.tail.alive ? sums.mean : 0);
  const probs = step.rows.map(row => Math.exp(row.value - norm));
  step.rows.forEach((row, i) => { if (probs[i] > 0) mean += probs[i] * row.value; });
  return { norm, probs, tail, entropy: norm - mean };
}

function sort(step) {
  step.rows.sort((a, b) => b.value - a.value || a.id - b.id);
}

// How many rows stand before every token of the tail.
function headOf(step) {
  sort(step);
  if (!step.tail.alive) return step.rows.length;
  const behind = step.rows.findIndex(row =>
    row.value < step.tail.best || (row.value === step.tail.best && !row.top));
  return behind < 0 ? step.rows.length : behind;
}

function closeAt(step, kept) {
  step.rows = step.rows.slice(0, kept);
  step.tail.alive = false;
}

function unsure(step, name) {
  step.exact = false;
  step.notes.push(`${name} cuts among the ${count(step.tail.count)} tokens that are not stored one by one: the whole tail is kept here.`);
}

const LINKS = {
  repetition_penalty(step, p) {
    for (const row of step.rows) {
      if (row.seen) row.value = row.value > 0 ? f32(row.value / f32(p)) : f32(row.value * f32(p));
    }
  },
  frequency_penalty(step, c) {
    for (const row of step.rows) row.value = f32(row.value - f32(row.count * f32(c)));
  },
  presence_penalty(step, c) {
    for (const row of step.rows) if (row.count > 0) row.value = f32(row.value - f32(c));
  },
  top_k(step, k) {
    const head = headOf(step);
    if (k >= step.rows.length + (step.tail.alive ? step.tail.count : 0)) return;
    if (head >= k) closeAt(step, k);
    else unsure(step, 'top-k');
  },
  top_p(step, p) {
    const head = headOf(step);
    const { probs } = weigh(step);
    let before = 0;
    for (let i = 0; i < head; i++) {
      before += probs[i];
      if (f32(before) >= f32(p)) return closeAt(step, i + 1);
    }
    if (step.tail.alive) unsure(step, 'top-p');
  },
  min_p(step, p) {
    const best = Math.max(step.tail.alive ? step.tail.best : -Infinity,
      ...step.rows.map(row => row.value));
    const low = f32(best + f32(Math.log(f32(p))));
    step.rows = step.rows.filter(row => row.value >= low);
    if (!step.tail.alive || step.tail.least >= low) return;
    if (step.tail.best < low) step.tail.alive = false;
    else unsure(step, 'min-p');
  },
  typical(step, mass) {
    sort(step);
    const { norm, probs, entropy } = weigh(step);
    const far = step.rows.map(row => Math.abs(norm - row.value - entropy));
    const order = step.rows.map((_, i) => i).sort((a, b) => far[a] - far[b] || a - b);
    let before = 0, farthest = -Infinity, i = 0;
    for (; i < order.length && (i === 0 || f32(before) < f32(mass)); i++) {
      before += probs[order[i]];
      farthest = far[order[i]];
    }
    if (step.tail.alive) {
      const nearest = norm - step.tail.best - entropy;
      if (f32(before) < f32(mass) || nearest <= farthest) return unsure(step, 'typical');
      step.tail.alive = false;
    }
    step.rows = step.rows.filter((_, i) => far[i] <= farthest);
  },
  temperature(step, t) {
    if (t === 0) {
      if (headOf(step) > 0) return closeAt(step, 1);
      return unsure(step, 'temperature 0');
    }
    for (const row of step.rows) row.value = f32(row.value / f32(t));
    step.tail.best = f32(step.tail.best / f32(t));
    step.tail.least = f32(step.tail.least / f32(t));
    step.tail.temperature = t;
  },
};

// The distribution of step t after the links in some order.
function compute(t, settings, order) {
  const step = loadStep(t);
  for (const name of order) {
    if (settings[name] !== NEUTRAL[name]) LINKS[name](step, settings[name]);
  }
  sort(step);
  const { probs, tail, entropy } = weigh(step);
  return {
    ids: step.rows.map(row => row.id),
    probs,
    tail,
    entropy: Math.max(entropy, 0),
    kept: step.rows.length + (step.tail.alive ? step.tail.count : 0),
    exact: step.exact,
    notes: step.notes,
  };
}

// The noise of a token under the step's key: threefry-2x32, as jax.random.gumbel has it.
function noiseOf(t, id) {
  const k0 = STEPS.key[2 * t], k1 = STEPS.key[2 * t + 1];
  const keys = [k0, k1, (k0 ^ k1 ^ 0x1BD11BDA) >>> 0];
  const turns = [[13, 15, 26, 6], [17, 29, 16, 24]];
  let x0 = k0 >>> 0, x1 = (id + k1) >>> 0;
  for (let group = 0; group < 5; group++) {
    for (const r of turns[group % 2]) {
      x0 = (x0 + x1) >>> 0;
      x1 = (x0 ^ ((x1 << r) | (x1 >>> (32 - r)))) >>> 0;
    }
    x0 = (x0 + keys[(group + 1) % 3]) >>> 0;
    x1 = (x1 + keys[(group + 2) % 3] + group + 1) >>> 0;
  }
  const tiny = 1.1754943508222875e-38;
  const uniform = Math.max(tiny, ((x0 ^ x1) >>> 9) / 8388608);
  return -Math.log(-Math.log(uniform));
}

// What the step's noise draws from a distribution, the tail left aside.
function drawn(t, found) {
  let best = -Infinity, winner = null;
  found.ids.forEach((id, i) => {
    const sum = Math.log(found.probs[i]) + noiseOf(t, id);
    if (sum > best) { best = sum; winner = id; }
  });
  return winner;
}
