// Runs in the page: what is too wide, what cannot be read, and the order of headings.

export function audit() {
  const visible = element => element.checkVisibility({ opacityProperty: true, visibilityProperty: true })
  const channels = color => (color.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number)

  /** `front` over `back`, both [r, g, b, a]. */
  const over = (front, back) => {
    const alpha = front[3] ?? 1
    return [0, 1, 2].map(index => front[index] * alpha + back[index] * (1 - alpha))
  }
  const ground = element => {
    const layers = []
    for (let each = element; each; each = each.parentElement) layers.push(channels(getComputedStyle(each).backgroundColor))
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255])
  }
  const luminance = color => {
    const [r, g, b] = color.map(value => value / 255).map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ratio = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a)
    return (high + 0.05) / (low + 0.05)
  }

  const faint = []
  let measured = 0
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement
    if (!node.data.trim() || !visible(element) || element.closest('.hidden, noscript, option, svg, .skip')) continue
    const style = getComputedStyle(element)
    const back = ground(element)
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700)
    const found = ratio(over(channels(style.color), back), back)
    measured += 1
    if (found < (large ? 3 : 4.5)) faint.push(`${found.toFixed(2)}: ${node.data.trim().slice(0, 40)} (${element.className})`)
  }

  const width = document.documentElement.clientWidth
  const wide = [...document.body.querySelectorAll('*')].filter(element => visible(element)
    && element.getBoundingClientRect().right > width + 1 && !element.closest('.scroll, pre, .hidden, .skip, svg'))
    .map(element => `${element.tagName}.${element.className} ${Math.round(element.getBoundingClientRect().right)}`)

  const headings = [...document.querySelectorAll('h1, h2, h3, h4')].filter(element => element.checkVisibility())
    .map(element => [Number(element.tagName[1]), element.textContent])

  const small = innerWidth > 500 ? [] : [...document.querySelectorAll('button, select, nav a, summary')].filter(visible)
    .filter(element => element.getBoundingClientRect().height < 24).map(element => element.textContent)

  return { measured, faint, wide: [...new Set(wide)].slice(0, 10), scrolls: document.documentElement.scrollWidth > width, headings, small }
}
