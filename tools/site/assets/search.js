// Search over index.js, which has every section of every page. Nothing leaves the browser.
(() => {
  const root = document.body.dataset.root;
  const input = document.getElementById("search");
  const list = document.getElementById("results");
  let chosen = -1;

  // A link to each heading.
  for (const h of document.querySelectorAll("main h1[id], main h2[id], main h3[id]")) {
    const a = document.createElement("a");
    a.className = "anchor";
    a.href = "#" + h.id;
    a.textContent = "#";
    a.setAttribute("aria-label", "link to this section");
    h.append(a);
  }

  // Every word must be there; words in titles and headings weigh more.
  function search(query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    const found = [];
    for (const s of searchIndex) {
      const title = s.t.toLowerCase(), heading = s.h.toLowerCase(), text = s.x.toLowerCase();
      let score = 0;
      const all = words.every((w) => {
        const points = (heading.includes(w) ? 8 : 0) + (title.includes(w) ? 4 : 0) + (text.includes(w) ? 1 : 0);
        score += points;
        return points > 0;
      });
      if (all) found.push({ s, score, words });
    }
    return found.sort((a, b) => b.score - a.score).slice(0, 12);
  }

  function marked(text, words) {
    const at = Math.max(0, Math.min(...words.map((w) => text.toLowerCase().indexOf(w)).filter((i) => i >= 0), text.length) - 50);
    const piece = (at > 0 ? "…" : "") + text.slice(at, at + 150);
    const small = document.createElement("small");
    const any = new RegExp("(" + words.map((w) => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|") + ")", "i");
    for (const [i, part] of piece.split(any).entries()) {
      const node = document.createElement(i % 2 ? "mark" : "span");
      node.textContent = part;
      small.append(node);
    }
    return small;
  }

  function show() {
    const found = search(input.value);
    chosen = -1;
    list.replaceChildren(...found.map(({ s, words }) => {
      const li = document.createElement("li"), a = document.createElement("a"), b = document.createElement("b");
      a.href = root + s.u;
      b.textContent = s.h === s.t ? s.t : s.h + " · " + s.t;
      a.append(b, marked(s.x, words));
      li.append(a);
      return li;
    }));
    list.hidden = found.length === 0;
  }

  input.addEventListener("input", show);
  input.addEventListener("keydown", (e) => {
    const links = [...list.querySelectorAll("a")];
    if (e.key === "Escape") { input.value = ""; show(); input.blur(); }
    if (e.key === "Enter" && links.length) links[Math.max(chosen, 0)].click();
    if ((e.key === "ArrowDown" || e.key === "ArrowUp") && links.length) {
      e.preventDefault();
      chosen = (chosen + (e.key === "ArrowDown" ? 1 : links.length - 1) + (chosen < 0 && e.key === "ArrowUp" ? 1 : 0)) % links.length;
      links.forEach((a, i) => a.classList.toggle("chosen", i === chosen));
      links[chosen].scrollIntoView({ block: "nearest" });
    }
  });
  document.addEventListener("keydown", (e) => {
    if (e.key === "/" && document.activeElement !== input) { e.preventDefault(); input.focus(); }
  });
  list.addEventListener("click", () => { list.hidden = true; });
  document.addEventListener("click", (e) => { if (!e.target.closest(".search")) list.hidden = true; });
  // For a link such as index.html?q=lock, and for tests.
  const q = new URLSearchParams(location.search).get("q");
  if (q) { input.value = q; show(); }
})();
