// Small pictures, drawn for this page. They say nothing that a word beside them does not say.

import { s } from './dom.js'

const PATHS = {
  online: 'M3.5 8.5l3 3 6-7',
  stopped: 'M5 5h6v6H5z',
  pairing: 'M3 3h4v4H3zM9 3h4v4H9zM3 9h4v4H3zM9.5 9.5h3.5M9.5 13h3.5',
  connecting: 'M13 8a5 5 0 1 1-2-4M13 2v3h-3',
  syncing: 'M8 2v8M4.5 7L8 10.5 11.5 7M3 13.5h10',
  backoff: 'M8 4.5V8l2.5 1.5M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z',
  parked: 'M6 4v8M10 4v8',
  conflict: 'M5 2v5.5L2.5 10M11 14V8.5L13.5 6M5 14v-2M11 2v2',
  logged_out: 'M9 3H4v10h5M7 8h7M11.5 5.5L14 8l-2.5 2.5',
  banned: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM4 4l8 8',
  ok: 'M3.5 8.5l3 3 6-7',
  degraded: 'M8 5.5v3.5M8 11.4v.2M8 2L1.5 13.5h13z',
  failing: 'M4.5 4.5l7 7M11.5 4.5l-7 7',
  live: 'M8 6.7a1.3 1.3 0 1 0 0 2.6 1.3 1.3 0 0 0 0-2.6zM4.8 4.8a4.5 4.5 0 0 0 0 6.4M11.2 4.8a4.5 4.5 0 0 1 0 6.4',
  still: 'M8 7a1 1 0 1 0 0 2 1 1 0 0 0 0-2zM3 3l10 10',
  ear: 'M5 6.5a3.2 3.2 0 0 1 6.4 0c0 2.5-2.4 2.7-2.4 4.7 0 1.2-.9 2-1.9 2-.9 0-1.6-.5-1.9-1.3M6.8 7a1.5 1.5 0 0 1 3 0M2.5 2.5l11 11',
  sun: 'M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM8 1.2v1.6M8 13.2v1.6M1.2 8h1.6M13.2 8h1.6M3.2 3.2l1.1 1.1M11.7 11.7l1.1 1.1M12.8 3.2l-1.1 1.1M4.3 11.7l-1.1 1.1',
  moon: 'M13 9.6A5.6 5.6 0 0 1 6.4 3 5.6 5.6 0 1 0 13 9.6z',
  exit: 'M9 3H4v10h5M7 8h7M11.5 5.5L14 8l-2.5 2.5',
  back: 'M10 3L5 8l5 5',
  file: 'M4 2h5l3 3v9H4zM9 2v3h3',
  lock: 'M4 7.5h8V14H4zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5',
  hole: 'M3 8h2.5M10.5 8H13M7.2 6.5L6 9.5M10 6.5L8.8 9.5',
  bin: 'M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5L5 13.5h6l.5-9',
}

/** A picture of 16 × 16 in the colour of the text around it. */
export function icon(name) {
  return s('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true', focusable: 'false' },
    s('path', { d: PATHS[name] ?? PATHS.still }))
}
