// What if: the same noise under other settings, side by side.

function variantText(tokens, probs, differs) {
  return make('p', { class: 'variant', dir: 'auto' }, ...tokens.flatMap((id, t) => {
    const span = coloured(id, probs[t], { title: `step ${t + 1}: ${percent(probs[t])}` });
    if (t === differs) {
      span.classList.add('differs');
      span.setAttribute('aria-label', `first difference: ${wordOf(id)}`);
    } else if (differs >= 0 && t < differs) span.classList.add('equal');
    return breaksLine(id) ? [span, make('br')] : [span];
  }));
}

function firstDifference(tokens) {
  const long = Math.max(tokens.length, DATA.tokens.length);
  for (let t = 0; t < long; t++) if (tokens[t] !== DATA.tokens[t]) return t;
  return -1;
}

function showVariants() {
  if (!DATA.variants.length) return;
  document.getElementById('compare').hidden = false;
  const own = { label: `as above: ${DATA.sampler}`, tokens: DATA.tokens,
    probs: DATA.tokens.map((_, t) => chanceOf(t)) };
  const all = [own, ...DATA.variants.map(variant => ({ ...variant,
    probs: Array.from(unpack(variant.logprobs), Math.exp) }))];
  document.getElementById('variants').replaceChildren(...all.map((one, i) => {
    const differs = i ? firstDifference(one.tokens) : -1;
    const mean = one.probs.reduce((sum, p) => sum + Math.log(p), 0) / one.probs.length;
    const said = !i ? '' : differs < 0 ? 'the same text' : `first differs at step ${differs + 1}`;
    return make('article', { 'data-differs': differs },
      make('h3', {}, visible(one.label)),
      variantText(one.tokens, one.probs, differs),
      make('p', { class: 'hint' }, [`${one.tokens.length} tokens`, `mean log-prob ${mean.toFixed(2)}`, said].filter(Boolean).join(', ')));
  }));
}
