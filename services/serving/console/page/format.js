/** Numbers for people: always with their unit, a dash for what is not known. */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const UNKNOWN = "–";
export const known = (number) => typeof number === "number" && Number.isFinite(number);
export const count = (number) => (known(number) ? whole.format(number) : UNKNOWN);
export const plural = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;
export const share = (number) => (known(number) ? `${(100 * number).toFixed(1)} %` : UNKNOWN);
export const time = (atMs) => clock.format(atMs);
export const date = (atMs) => (Date.now() - atMs < 43_200_000 ? clock : day).format(atMs);

export function decimal(number, digits = 3) {
  if (!known(number)) return UNKNOWN;
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 10_000) return compact.format(number);
  if (size !== 0 && size < 0.001) return number.toExponential(1);
  return size >= 100 ? number.toFixed(size >= 1_000 ? 0 : 1) : number.toFixed(Math.min(digits, size >= 10 ? 2 : digits));
}

/** Marks of an axis: as many digits as tell one from the next. */
export function marks(numbers) {
  const step = numbers.length > 1 ? numbers[1] - numbers[0] : 1;
  const digits = [0, 1, 2, 3, 4].find((one) => Math.abs(step - Number(step.toFixed(one))) < step / 1_000) ?? 4;
  return numbers.map((number) => (Math.abs(number) >= 10_000 ? compact.format(number) : number.toFixed(digits)));
}

export function rate(number) {
  if (!known(number)) return UNKNOWN;
  return number >= 100 ? whole.format(number) : number.toFixed(1);
}

export function seconds(number) {
  if (!known(number)) return UNKNOWN;
  if (number === 0) return "0 s";
  if (number < 1) return `${Math.max(1, Math.round(1_000 * number))} ms`;
  if (number < 100) return `${number.toFixed(1)} s`;
  if (number < 7_200) return `${Math.floor(number / 60)} min ${Math.round(number % 60)} s`;
  if (number < 172_800) return `${Math.floor(number / 3_600)} h ${Math.round((number % 3_600) / 60)} min`;
  return `${Math.floor(number / 86_400)} d ${Math.round((number % 86_400) / 3_600)} h`;
}

export function bytes(number) {
  if (number < 1_000) return `${number} B`;
  return number < 1_000_000 ? `${(number / 1_000).toFixed(1)} kB` : `${(number / 1_000_000).toFixed(1)} MB`;
}
