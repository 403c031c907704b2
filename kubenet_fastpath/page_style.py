"""How pages look: colours for light and dark, one column on narrow screens, everything open on paper."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --paper: #fff; --card: #f6f8fa;
  --k0: #b35900; --k1: #1f6feb; --k2: #1a7f37; --k3: #8250df; --bad: #b42318; --own: #dafbe1; --own-ink: #0b4f22;
  --node: #fff1c2; --node-ink: #6b4400; --lb: #ddf4ff; --lb-ink: #0a4a7a; --lost: #ffe3e0; --lost-ink: #8c1a11; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa5b1; --line: #30363d; --paper: #0d1117;
  --card: #161b22; --k0: #f0883e; --k1: #58a6ff; --k2: #56d364; --k3: #bc8cff; --bad: #ff7b72; --own: #12351f;
  --own-ink: #8ddf9f; --node: #3b2c05; --node-ink: #f2cc60; --lb: #0c2d4a; --lb-ink: #9bd1ff; --lost: #4a1512;
  --lost-ink: #ffb3ab; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.15; margin: 0 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .6rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; } h4 { font-size: .9rem; margin: 1rem 0 .3rem; }
p { max-width: 48rem; } header p, section > p, footer, small, dt { color: var(--soft); }
dl { display: grid; grid-template-columns: minmax(5rem, 8.5rem) 1fr; gap: .15rem .9rem; margin: 0; font-size: .9rem; }
dt, dd { margin: 0; } .said { max-width: 60rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .9rem; }
.card { background: var(--card); border: 1px solid var(--line); border-top: 4px solid var(--c, var(--line));
  border-radius: 10px; padding: .8rem 1rem; }
.card h3 { margin: 0 0 .4rem; color: var(--c); } .card ul { list-style: none; margin: 0; padding: 0; }
.card li { display: grid; grid-template-columns: 3.6rem 1fr; gap: .6rem; align-items: baseline; font-size: .86rem;
  color: var(--soft); padding: .15rem 0; line-height: 1.35; }
.card b { font-size: 1.25rem; color: var(--ink); text-align: right; font-variant-numeric: tabular-nums; }
.k0 { --c: var(--k0); } .k1 { --c: var(--k1); } .k2 { --c: var(--k2); } .k3 { --c: var(--k3); }
.changes { max-width: 60rem; padding-left: 1.2rem; } .changes li { margin: .3rem 0; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .5rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top;
  min-width: 8.5rem; overflow-wrap: normal; }
tbody tr:last-child > * { border-bottom: 0; } thead > tr > * { background: var(--card); }
tbody th { font-weight: 600; }
.mark { display: inline-block; padding: .05rem .55rem; border-radius: 1rem; font-size: .82rem; font-weight: 600;
  white-space: nowrap; }
.own { background: var(--own); color: var(--own-ink); } .node { background: var(--node); color: var(--node-ink); }
.balancer { background: var(--lb); color: var(--lb-ink); } .lost { background: var(--lost); color: var(--lost-ink); }
.matrix small { display: block; margin: .15rem 0 0 .55rem; }
td.other { background: color-mix(in srgb, var(--k1) 9%, transparent); box-shadow: inset 3px 0 0 var(--k1); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: .9rem; }
figure { margin: 0; padding: .7rem .9rem .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; break-inside: avoid; }
figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .4rem; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .25rem .6rem; align-items: center;
  font-size: .8rem; font-variant-numeric: tabular-nums; }
.ns { text-align: right; min-width: 5.2rem; }
.track { display: block; height: .7rem; background: color-mix(in srgb, var(--soft) 18%, transparent);
  border-radius: 3px; overflow: hidden; }
.track i { display: block; height: 100%; background: var(--c, var(--k1)); border-radius: 3px; }
.meter { height: .35rem; margin-top: .35rem; max-width: 12rem; }
details { border: 1px solid var(--line); border-radius: 10px; padding: .5rem .9rem; margin: .5rem 0; }
details[open] { padding-bottom: .9rem; } summary { cursor: pointer; font-weight: 600; font-size: .92rem; }
summary:focus-visible, .wide:focus-visible { outline: 2px solid var(--k1); outline-offset: 2px; }
details .wide { margin-top: .6rem; } details dl { border-left: 3px solid var(--line); padding-left: .8rem; }
footer { margin-top: 3rem; font-size: .85rem; }
@media (max-width: 34rem) { body { padding: 1.2rem .9rem 3rem; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .35rem; } th, td { padding: .45rem .55rem; min-width: 7.2rem; }
  .matrix tbody th { position: sticky; left: 0; background: var(--paper); min-width: 8rem; max-width: 9rem; } }
@media print { :root { color-scheme: light; font-size: 11px; } body { max-width: none; padding: 0; }
  .wide { overflow: visible; } details::details-content { content-visibility: visible; height: auto; }
  h2 { break-after: avoid; } tr, .card, details { break-inside: avoid; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
"""
