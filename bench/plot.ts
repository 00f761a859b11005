/** Draws the ratios as an SVG picture: one bar for each row, on a logarithmic scale around equality. */
import type { Measurements, Ratio, Summary } from "./summary.ts";

const WIDTH = 760;
const LABEL_WIDTH = 250;
const FIGURE_WIDTH = 70;
const ROW_HEIGHT = 26;
const TOP = 64;
const BOTTOM = 44;
const BAR_HEIGHT = 14;

/** Colours that stand out on light and dark pages alike. */
const COLOURS = { faster: "#2a9d5c", slower: "#c8553d", mean: "#3b6ea5", text: "#6b7280", line: "#9ca3af" } as const;

interface Bar {
  readonly label: string;
  /** Our speed over TCG's. */
  readonly speed: number;
  readonly colour: string;
}

/** @returns the picture; rows without a ratio are left out */
export function plotRatios(summary: Summary, measured: Measurements): string {
  const bars = summary.ratios.flatMap((row) => barOf(row) ?? []);
  if (summary.geometricMean !== undefined) {
    bars.push({ label: "geometric mean", speed: 1 / summary.geometricMean, colour: COLOURS.mean });
  }
  const scale = scaleFor(bars.map(({ speed }) => speed));
  const height = TOP + bars.length * ROW_HEIGHT + BOTTOM;
  const { host, machines, repetitions, date } = measured;
  const caption = `${machines.ours ?? "nobody"}; ${host.cpu}; medians of ${repetitions}; ${date.slice(0, 10)}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="13">`,
    text(WIDTH / 2, 22, "Speed compared with QEMU TCG on the same host", "middle", 15),
    text(WIDTH / 2, 42, "1 × is equal, longer to the right is faster", "middle"),
    ...scale.ticks.flatMap((tick) => tickLines(tick, scale.x(tick), height)),
    ...bars.flatMap((bar, index) => barShapes(bar, TOP + index * ROW_HEIGHT, scale.x)),
    text(WIDTH / 2, height - 8, caption, "middle", 11),
    "</svg>",
    "",
  ].join("\n");
}

function barOf({ title, ratio }: Ratio): Bar | undefined {
  if (ratio === undefined) return undefined;
  const speed = 1 / ratio;
  return { label: title, speed, colour: speed >= 1 ? COLOURS.faster : COLOURS.slower };
}

/** Powers of two that hold all bars and equality. */
function scaleFor(speeds: readonly number[]): { ticks: number[]; x: (speed: number) => number } {
  const exponents = [...speeds, 1].map(Math.log2);
  const from = Math.min(-1, Math.floor(Math.min(...exponents)));
  const to = Math.max(1, Math.ceil(Math.max(...exponents)));
  const span = WIDTH - LABEL_WIDTH - FIGURE_WIDTH;
  const x = (speed: number): number => LABEL_WIDTH + ((Math.log2(speed) - from) / (to - from)) * span;
  return { ticks: Array.from({ length: to - from + 1 }, (_, i) => 2 ** (from + i)), x };
}

function tickLines(tick: number, x: number, height: number): string[] {
  const bottom = height - BOTTOM + 4;
  const width = tick === 1 ? 1.5 : 0.5;
  const label = tick >= 1 ? `${tick} ×` : `1/${1 / tick} ×`;
  return [
    `<line x1="${px(x)}" y1="${TOP - 8}" x2="${px(x)}" y2="${bottom}" stroke="${COLOURS.line}" stroke-width="${width}"/>`,
    text(x, bottom + 14, label, "middle", 11),
  ];
}

function barShapes({ label, speed, colour }: Bar, y: number, x: (speed: number) => number): string[] {
  const [from, to] = [Math.min(x(speed), x(1)), Math.max(x(speed), x(1))];
  const top = y + (ROW_HEIGHT - BAR_HEIGHT) / 2;
  const baseline = y + ROW_HEIGHT / 2 + 4;
  return [
    text(LABEL_WIDTH - 10, baseline, label, "end"),
    `<rect x="${px(from)}" y="${px(top)}" width="${px(Math.max(1, to - from))}" height="${BAR_HEIGHT}" rx="2" fill="${colour}"/>`,
    text(to + 6, baseline, `${speed.toFixed(2)} ×`, "start", 12),
  ];
}

function text(x: number, y: number, content: string, anchor: "start" | "middle" | "end", size?: number): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const font = size === undefined ? "" : ` font-size="${size}"`;
  return `<text x="${px(x)}" y="${px(y)}" text-anchor="${anchor}" fill="${COLOURS.text}"${font}>${escaped}</text>`;
}

const px = (value: number): string => String(Math.round(value * 10) / 10);
