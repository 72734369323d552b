// Keeps a live task's page up to date, and lets a filter apply as soon as it is chosen. Both are conveniences: without
// this file the page is reloaded, and the form submitted, by hand.
"use strict";
{
    const PAGE = ".bgtasks-page";
    const FOCUSABLE = "a, summary, button";
    let isLeaving = false; // A button was pressed: the answer, and its messages, belong to the page that comes.

    const isBeingCopied = (page) => {
        const selection = getSelection();
        return selection && !selection.isCollapsed && page.contains(selection.anchorNode);
    };

    const swap = (page, fresh) => {
        const open = [...page.querySelectorAll("details[open]")].map((each) => each.dataset.bgtasksDetails);
        fresh.querySelectorAll("details").forEach((each) => {
            each.open ||= open.includes(each.dataset.bgtasksDetails);
        });
        const focused = [...page.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
        page.replaceWith(fresh);
        fresh.querySelectorAll(FOCUSABLE)[focused]?.focus({preventScroll: true});
    };

    const refresh = async () => {
        const page = document.querySelector(PAGE);
        const seconds = Number(page?.dataset.bgtasksRefresh);
        if (!seconds || isLeaving) return; // The task has finished.
        if (!document.hidden && !isBeingCopied(page)) {
            try {
                const response = await fetch(location.href, {credentials: "same-origin", redirect: "manual"});
                if (response.type === "opaqueredirect") return; // To the login.
                const text = response.ok ? await response.text() : "";
                const fresh = new DOMParser().parseFromString(text, "text/html").querySelector(PAGE);
                if (fresh && !isLeaving) swap(page, fresh);
            } catch {
                // The server restarts, or the network is away: the next round may find it again.
            }
        }
        setTimeout(refresh, seconds * 1000);
    };

    document.addEventListener("submit", ({target}) => {
        const button = target.querySelector(".bgtasks-button");
        if (!button) return;
        isLeaving = true;
        button.disabled = true; // Once is enough.
    });
    addEventListener("pageshow", ({persisted}) => persisted && location.reload()); // Back: with what is true now.
    document.querySelector(".bgtasks-search")?.addEventListener("formdata", (event) => {
        [...event.formData].forEach(([name, value]) => value || event.formData.delete(name)); // For a short address.
    });
    document.querySelectorAll("select[data-bgtasks-submit]").forEach((select) => {
        select.addEventListener("change", () => select.form.requestSubmit());
    });
    const seconds = Number(document.querySelector(PAGE)?.dataset.bgtasksRefresh);
    if (seconds) setTimeout(refresh, seconds * 1000);
}
