// However often something is asked for, it is done at most once at a time, and not too often.

/** A function that runs `work` soon: `within` ms from now, but never sooner than `gap` ms after
 * the last run ended, and never twice at once. What is asked for while it runs is done once more
 * afterwards. While the page is hidden nothing is done; it is made up for when it shows. */
export function coalesce(work, gap) {
  let timer = null
  let due = Infinity
  let running = false
  let waiting = Infinity // asked for while it runs: how soon after
  let ended = -Infinity
  let stopped = false

  function arm() {
    clearTimeout(timer)
    timer = setTimeout(run, Math.max(0, due - performance.now()))
  }

  async function run() {
    if (document.hidden || stopped) return
    due = Infinity
    running = true
    try {
      await work()
    } finally {
      running = false
      ended = performance.now()
      if (waiting < Infinity) {
        const within = waiting
        waiting = Infinity
        ask(within)
      }
    }
  }

  function ask(within = 0) {
    if (stopped) return
    if (running) {
      waiting = Math.min(waiting, within)
      return
    }
    const at = Math.max(performance.now() + within, ended + gap)
    if (at < due) {
      due = at
      arm()
    }
  }

  function shown() {
    if (!document.hidden && due < Infinity) arm()
  }
  document.addEventListener('visibilitychange', shown)

  ask.stop = () => {
    stopped = true
    clearTimeout(timer)
    document.removeEventListener('visibilitychange', shown)
  }
  return ask
}
