// Keeps a page up to date, and applies a filter as soon as it is chosen. Without this file users reload the page and
// submit the form by hand.
//
// The page loads itself anew every few seconds (data-bgtasks-refresh), and at once when the server reports a change
// over the WebSocket (data-bgtasks-socket). A hidden tab loads nothing.
"use strict";
{
    const PAGE = ".bgtasks-page";
    const GAP = 700; // Least milliseconds between two refreshes.
    const SHARE = 5; // Least gap, as a multiple of the duration of the last refresh.
    const CALM = 30; // Seconds between two refreshes of a page with an open socket and without growing bars.
    const FIRST_RETRY = 1000, LAST_RETRY = 30000; // Milliseconds until a lost socket is reopened.
    const FORBIDDEN = 4403;
    let isLeaving = false; // A button was pressed: the response and its messages belong to the next page.
    let isOpen = false; // The socket.
    let isBusy = false, isDue = false;
    let timer = 0, earliest = 0;
    let retry = FIRST_RETRY;

    const find = () => document.querySelector(PAGE);

    const isInUse = (page) => {
        const selection = getSelection();
        if (selection && !selection.isCollapsed && page.contains(selection.anchorNode)) return true; // Being copied.
        if (page.querySelector("input[type=checkbox]:checked, dialog[open]")) return true; // Being selected.
        const focused = document.activeElement; // Being filled in.
        return page.contains(focused) && focused.matches("input:not([type=checkbox]), select, textarea");
    };

    const SCROLLING = "pre, .bgtasks-message, .bgtasks-scrolls"; // Parts that scroll are also reached by Tab.
    const FOCUSABLE = `a[href], summary, button, input, ${SCROLLING}`;

    // The key of an element: attributes that stay while times and counts change, and its number among equal keys.
    const listKeys = (page) => {
        const seen = {};
        return [...page.querySelectorAll(FOCUSABLE)].map((element) => {
            const details = element.parentElement.dataset.bgtasksDetails;
            const what = ["href", "value", "aria-label"].map((name) => element.getAttribute(name)).find(Boolean);
            const effect = element.tagName === "BUTTON" ? element.formAction : ""; // Two buttons may differ in it.
            const key = `${element.tagName} ${effect} ${details ?? what ?? ""}`;
            seen[key] = (seen[key] ?? 0) + 1;
            return {element, key: `${key} ${seen[key]}`};
        });
    };

    // Restore the focus. If its element is gone, take the last link before it. Never a button: a key may be pressed then.
    const focusAgain = (before, at, fresh) => {
        const again = new Map(listKeys(fresh).map(({element, key}) => [key, element]));
        const found = before.slice(0, at + 1).reverse().map(({key}) => again.get(key));
        const next = found[0] ?? found.find((element) => element?.matches("a, summary"));
        next?.focus({preventScroll: true});
    };

    const load = async (tile) => {
        try {
            const response = await fetch(tile.dataset.bgtasksLoad, {redirect: "manual"});
            if (response.ok) tile.querySelector(".bgtasks-tile-value").innerHTML = await response.text();
        } catch {
            // The next refresh tries again.
        }
    };

    const loadTiles = () => {
        document.querySelectorAll("[data-bgtasks-load]").forEach((tile) => {
            if (!tile.querySelector("[data-bgtasks-loaded]")) load(tile);
        });
    };

    // Screen readers announce a new banner once, instead of a page that is replaced each second.
    const news = document.body.appendChild(document.createElement("p"));
    news.className = "visually-hidden";
    news.setAttribute("role", "status");
    const announce = (page, fresh) => {
        const titles = (each) => [...each.querySelectorAll(".bgtasks-hint strong")].map(({textContent}) => textContent);
        const told = titles(page);
        const fresher = titles(fresh).filter((title) => !told.includes(title));
        if (fresher.length) news.textContent = fresher.join(" ");
    };

    const swap = (page, fresh) => {
        const unfolded = new Map();
        page.querySelectorAll("details").forEach((each) => unfolded.set(each.dataset.bgtasksDetails, each.open));
        fresh.querySelectorAll("details").forEach((each) => {
            each.open = unfolded.get(each.dataset.bgtasksDetails) ?? each.open;
        });
        const before = listKeys(page);
        const focused = before.findIndex(({element}) => element === document.activeElement);
        const scrolled = [...page.querySelectorAll(SCROLLING)].map((each) => [each.scrollLeft, each.scrollTop]);
        page.replaceWith(fresh);
        fresh.querySelectorAll(SCROLLING).forEach((each, index) => each.scrollTo(...(scrolled[index] ?? [0, 0])));
        if (focused >= 0) focusAgain(before, focused, fresh);
        announce(page, fresh);
        loadTiles();
    };

    const fetchPage = async () => {
        const response = await fetch(location.href, {credentials: "same-origin", redirect: "manual"});
        if (response.type === "opaqueredirect" || response.status === 403) {
            isLeaving = true; // To the login, or since it is forbidden now: nothing of it may stay on the screen.
            location.reload();
        }
        const text = response.ok ? await response.text() : "";
        return new DOMParser().parseFromString(text, "text/html").querySelector(PAGE);
    };

    const refresh = async () => {
        const page = find();
        if (isBusy || isLeaving || document.hidden || !page) return;
        isBusy = true;
        isDue = false;
        const began = performance.now();
        try {
            const fresh = isInUse(page) ? null : await fetchPage();
            if (isInUse(page)) isDue = true; // Try again when the page is no longer in use.
            else if (fresh && !isLeaving) swap(page, fresh);
        } catch {
            // The server restarts, or the network fails: the next refresh tries again.
        }
        const ended = performance.now();
        earliest = ended + Math.max(GAP, SHARE * (ended - began));
        isBusy = false;
        plan();
    };

    const plan = () => {
        clearTimeout(timer);
        const seconds = Number(find()?.dataset.bgtasksRefresh);
        if (!seconds || isLeaving) return; // The page does not change any more.
        const isCalm = isOpen && !("bgtasksMoving" in find().dataset);
        const wait = isDue ? 0 : 1000 * (isCalm ? CALM : seconds);
        timer = setTimeout(refresh, Math.max(wait, earliest - performance.now(), 0));
    };

    const hasChanged = () => {
        isDue = true;
        if (!isBusy) plan();
    };

    const connect = () => {
        const path = find()?.dataset.bgtasksSocket;
        if (!path || isLeaving) return;
        const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
        socket.addEventListener("open", () => {
            isOpen = true;
            retry = FIRST_RETRY;
        });
        socket.addEventListener("message", hasChanged); // The first comes at once, for earlier changes.
        socket.addEventListener("close", ({code}) => {
            isOpen = false;
            plan();
            if (isLeaving || code === FORBIDDEN) return;
            setTimeout(connect, retry * (0.5 + Math.random()));
            retry = Math.min(retry * 2, LAST_RETRY);
        });
    };

    document.addEventListener("visibilitychange", () => document.hidden || hasChanged());
    document.addEventListener("submit", ({target}) => {
        const button = target.querySelector(".bgtasks-button");
        if (!button || target.method === "get") return;
        isLeaving = true;
        setTimeout(() => (button.disabled = true)); // Against a second click, once its value is sent.
    });
    document.addEventListener("click", ({target}) => {
        const button = target.closest("[data-bgtasks-copy]");
        const text = button && document.getElementById(button.dataset.bgtasksCopy)?.textContent;
        if (text) navigator.clipboard?.writeText(text).then(() => (button.textContent = button.dataset.bgtasksCopied));
    });
    document.addEventListener("change", ({target}) => {
        if (target.matches("[data-bgtasks-all]")) {
            target.form.querySelectorAll("input[name=task]").forEach((each) => (each.checked = target.checked));
        }
    });
    addEventListener("pagehide", () => (isLeaving = true));
    addEventListener("pageshow", ({persisted}) => persisted && location.reload()); // "Back" shows an old page.
    document.querySelector(".bgtasks-search")?.addEventListener("formdata", (event) => {
        [...event.formData].forEach(([name, value]) => value || event.formData.delete(name)); // For a short address.
    });
    document.querySelectorAll("select[data-bgtasks-submit]").forEach((select) => {
        select.addEventListener("change", () => select.form.requestSubmit());
    });
    loadTiles();
    plan();
    connect();
}
