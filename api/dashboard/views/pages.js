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
  }

  /** All that is shown anew, as far as one request goes. */
  async refresh() {
    const wanted = Math.min(LARGEST, Math.max(PAGE, this.rows?.length ?? 0))
    await this.attempt(async () => {
      const { rows, next } = await this.load(wanted, null)
      this.rows = rows
      this.next = next
    })
  }

  /** One page more. */
  async more() {
    await this.attempt(async () => {
      const { rows, next } = await this.load(PAGE, this.next)
      const known = new Set(this.rows.map(row => row.id))
      this.rows = [...this.rows, ...rows.filter(row => !known.has(row.id))]
      this.next = next
    })
  }

  async attempt(work) {
    try {
      await work()
      this.error = null
    } catch (error) {
      this.error = error
    }
  }
}
