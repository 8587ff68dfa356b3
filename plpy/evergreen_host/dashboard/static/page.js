"use strict";
// Keeps the figures new, and shows answers of forms in the page. Everything also works without it, by loading pages.
(() => {
  const live = document.getElementById("live");
  const offline = document.getElementById("offline");
  const said = document.getElementById("said");
  let tag = "";
  let asking = false;

  const place = (target, html) => {
    const parsed = new DOMParser().parseFromString(html, "text/html");
    target.replaceChildren(...parsed.body.childNodes);
  };

  // What a person has typed, chosen and opened stays while figures are replaced.
  const keep = (root) => {
    const focused = root.contains(document.activeElement) ? document.activeElement.id : "";
    const typed = [...root.querySelectorAll("input[id], select[id]")]
      .filter((field) => field.dataset.typed)
      .map((field) => [field.id, field.value]);
    const kept = [...root.querySelectorAll("[data-keep]")].map((part) => [part.id, [...part.childNodes]]);
    const scrolled = [...root.querySelectorAll(".scroll[id]")].map((part) => [part.id, part.scrollLeft]);
    return () => {
      for (const [id, value] of typed) {
        const field = document.getElementById(id);
        if (field) { field.value = value; field.dataset.typed = "1"; }
      }
      for (const [id, nodes] of kept) document.getElementById(id)?.replaceChildren(...nodes);
      for (const [id, left] of scrolled) { const part = document.getElementById(id); if (part) part.scrollLeft = left; }
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    };
  };

  const refresh = async () => {
    if (!live || asking || document.hidden) return;
    asking = true;
    try {
      const answer = await fetch(live.dataset.live, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.redirected) { location.reload(); return; }
      if (answer.status === 200) {
        const html = await answer.text();
        const restore = keep(live);
        place(live, html);
        restore();
        tag = answer.headers.get("ETag") || "";
      }
      offline.hidden = answer.status === 200 || answer.status === 304;
    } catch {
      offline.hidden = false;
    } finally {
      asking = false;
    }
  };

  // By id: the figures around the place may be replaced while the answer is on its way.
  const show = async (id, address) => {
    const busy = (is) => document.getElementById(id)?.setAttribute("aria-busy", String(is));
    busy(true);
    try {
      const answer = await fetch(address, { cache: "no-store" });
      if (answer.redirected) { location.reload(); return; }
      const told = await answer.text();
      const target = document.getElementById(id);
      if (answer.ok) place(target, told); else target.textContent = told;
      target.scrollIntoView({ block: "nearest" });
    } catch {
      offline.hidden = false;
    } finally {
      busy(false);
    }
  };

  const act = async (form) => {
    if (form.dataset.confirm && !confirm(form.dataset.confirm)) return;
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const answer = await fetch(form.action, {
        method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "text/html; fragment" },
      });
      const told = await answer.text();
      if (answer.headers.get("Content-Type")?.startsWith("text/html")) place(said, told); else said.textContent = told;
      for (const field of form.querySelectorAll("[data-typed]")) delete field.dataset.typed;
    } catch {
      offline.hidden = false;
    } finally {
      button.disabled = false;
    }
    await refresh();
  };

  document.addEventListener("input", (event) => { event.target.dataset.typed = "1"; });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.act !== undefined) {
      event.preventDefault();
      void act(form);
    } else if (form.dataset.into) {
      event.preventDefault();
      void show(form.dataset.into, `${form.action}?${new URLSearchParams(new FormData(form))}`);
    }
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-into]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    void show(link.dataset.into, link.href);
  });

  const point = (circle) => {
    if (!circle) return;
    circle.parentNode.querySelector(".chosen")?.classList.remove("chosen");
    circle.classList.add("chosen");
    const told = document.getElementById("pointed");
    told.replaceChildren();
    const key = document.createElement("b");
    key.textContent = `${circle.dataset.key} (${circle.classList[0]})`;
    const chunk = document.createElement("p");
    chunk.textContent = circle.dataset.chunk;
    told.append(key, chunk);
  };

  document.addEventListener("pointerover", (event) => {
    if (event.target.matches?.(".map circle")) point(event.target);
  });

  document.addEventListener("keydown", (event) => {
    const map = event.target.closest?.(".map");
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!map || !step) return;
    event.preventDefault();
    const circles = [...map.querySelectorAll("circle")];
    const at = circles.findIndex((circle) => circle.classList.contains("chosen"));
    point(circles[(at + step + circles.length) % circles.length]);
  });

  document.addEventListener("visibilitychange", () => void refresh());
  if (live) setInterval(() => void refresh(), Number(live.dataset.every));
})();
