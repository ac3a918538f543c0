"use strict";
(() => {
  const root = document.documentElement;

  // Sections become tabs; without this script they stand one below the other.
  const list = document.querySelector("nav");
  const tabs = [...list.querySelectorAll("a")];
  const panels = tabs.map((tab) => document.getElementById(tab.hash.slice(1)));
  const choose = (chosen) => {
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
      panels[index].hidden = index !== chosen;
    });
  };
  const step = (key, index, count) => {
    if (key === "ArrowRight") return (index + 1) % count;
    if (key === "ArrowLeft") return (index + count - 1) % count;
    if (key === "Home") return 0;
    return key === "End" ? count - 1 : -1;
  };
  const addressed = () => {
    const target = document.getElementById(location.hash.slice(1)); // names of sections and cases are plain ASCII
    const index = target ? panels.findIndex((panel) => panel.contains(target)) : -1;
    if (index >= 0) choose(index);
    if (index >= 0 && target !== panels[index]) target.scrollIntoView();
  };
  document.body.classList.add("tabbed");
  list.setAttribute("role", "tablist");
  tabs.forEach((tab, index) => {
    tab.setAttribute("role", "tab");
    tab.id = `tab-${panels[index].id}`;
    tab.setAttribute("aria-controls", panels[index].id);
    panels[index].setAttribute("role", "tabpanel");
    panels[index].setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      history.replaceState(null, "", tab.hash);
      choose(index);
    });
    tab.addEventListener("keydown", (event) => {
      if (event.key === " ") tab.click();
      const next = step(event.key, index, tabs.length);
      if (next >= 0) {
        tabs[next].focus();
        tabs[next].click();
      }
      if (next >= 0 || event.key === " ") event.preventDefault();
    });
  });
  choose(0);
  addressed();
  window.addEventListener("hashchange", addressed);

  // What the browser would show after a while on hover is shown at once, and on focus too.
  const tip = document.getElementById("tip");
  const place = (mark) => {
    const box = mark.getBoundingClientRect();
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const left = Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 8);
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above >= 8 ? above : box.bottom + 8}px`;
  };
  const hide = () => {
    tip.hidden = true;
  };
  const marked = (event) => event.target.closest("[data-tip]");
  for (const mark of document.querySelectorAll("main [title], main title")) {
    const shape = mark.localName === "title" ? mark.parentNode : mark;
    shape.dataset.tip = mark.localName === "title" ? mark.textContent : mark.title;
    if (mark.localName === "title") mark.remove();
    shape.removeAttribute("title");
    shape.setAttribute("role", "img");
    shape.setAttribute("aria-label", shape.dataset.tip);
  }
  document.addEventListener("mouseover", (event) => (marked(event) ? place(marked(event)) : hide()));
  document.addEventListener("focusin", (event) => (marked(event) ? place(marked(event)) : hide()));
  document.addEventListener("focusout", hide);
  // A walk scrolls to marks that lie off the screen: what is said of the focused one goes along.
  document.addEventListener("scroll", () => (marked({ target: document.activeElement }) ? place(document.activeElement) : hide()), true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });

  // A picture is one stop of the Tab key; arrows walk its marks.
  for (const picture of document.querySelectorAll("[data-walk]")) {
    const marks = [...picture.querySelectorAll("[data-tip]")];
    marks.forEach((mark, index) => mark.setAttribute("tabindex", index === 0 ? "0" : "-1"));
    picture.addEventListener("keydown", (event) => {
      const at = marks.indexOf(event.target);
      const key = { ArrowDown: "ArrowRight", ArrowUp: "ArrowLeft" }[event.key] || event.key;
      const next = at < 0 ? -1 : step(key, at, marks.length);
      if (next < 0) return;
      event.preventDefault();
      marks[at].setAttribute("tabindex", "-1");
      marks[next].setAttribute("tabindex", "0");
      marks[next].focus();
    });
  }

  const theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const tell = () => theme.setAttribute("aria-pressed", String(isDark()));
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  dark.addEventListener("change", tell);
  tell();
})();
