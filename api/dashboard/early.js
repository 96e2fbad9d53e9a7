// Runs before the first paint: the theme that was chosen here the last time.
'use strict'
try {
  const theme = localStorage.getItem('zapvisor.theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch {
  // Storage is blocked: the theme of the system it is.
}
