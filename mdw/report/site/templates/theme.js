try { const t = localStorage.getItem("mdw-theme"); if (t) document.documentElement.dataset.theme = t } catch {}
