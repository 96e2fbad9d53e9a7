// A list that grows downwards by pages, and is kept up to date from its top.

const PAGE = 50
const LARGEST = 200

export class Pages {
  /** `load(limit, after)`: a page after a cursor (null: the first) as { rows, next }. */
  constructor(load) {
    this.load = load
    this.rows = null
    this.next = null
    this.error = null
    this.generation = 0 // of what is asked for
  }

  /** Something else is asked for from now on: answers to what was asked before no longer count. */
  async reset() {
    this.generation += 1
    this.rows = null
    this.next = null
    this.error = null
    await this.refresh()
  }

  /** All that is shown anew, as far as one request goes. */
  async refresh() {
    const wanted = Math.min(LARGEST, Math.max(PAGE, this.rows?.length ?? 0))
    await this.attempt(wanted, null, rows => rows)
  }

  /** One page more. */
  async more() {
    if (this.next === null) return
    await this.attempt(PAGE, this.next, rows => {
      const known = new Set(this.rows.map(row => row.id))
      return [...this.rows, ...rows.filter(row => !known.has(row.id))]
    })
  }

  async attempt(limit, after, combine) {
    const { generation } = this
    let found = null
    let failed = null
    try {
      found = await this.load(limit, after)
    } catch (error) {
      failed = error
    }
    if (generation !== this.generation) return
    this.error = failed
    if (failed !== null) return
    this.rows = combine(found.rows)
    this.next = found.next
  }
}
