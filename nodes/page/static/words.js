// The product's terms in an operator's words, and numbers as people read them.
//
// Tables have no prototype: what the plant calls "constructor" is no entry of theirs.

const CATEGORIES = { __proto__: null,
  benign: "normal", fault: "process fault", dos: "denial of service", ddos: "distributed denial of service",
  recon: "reconnaissance", web: "web attack", mitm: "man in the middle", bruteforce: "password guessing",
  malware: "malware", ics: "attack on the process", unknown: "unknown cause",
};

/** State of a device: word, mark and what it means. Marks differ in shape, so that colour is never alone. */
export const DECISIONS = { __proto__: null,
  UNKNOWN: { word: "Not judged", mark: "none", means: "No verdict yet" },
  ALLOW: { word: "Normal", mark: "ok", means: "ALLOW: nothing outside what was learnt" },
  SUSPICIOUS: { word: "Suspicious", mark: "warn", means: "SUSPICIOUS: one source objects; nothing is done but telling" },
  BLOCK: { word: "Confirmed", mark: "bad", means: "BLOCK: confirmed; the cell answers, if it is armed" },
};

export function decision(device) {
  const known = DECISIONS[device.decision] ?? DECISIONS.UNKNOWN;
  if (device.decision !== "BLOCK") return known;
  return { ...known, word: device.category === "fault" ? "Fault" : "Attack" };
}

export const PRIORITIES = { __proto__: null, CRITICAL: ["1", "Critical"], HIGH: ["2", "High"], MEDIUM: ["3", "Medium"], LOW: ["4", "Low"] };

export const STATES = { __proto__: null,
  UNACKNOWLEDGED: "New", ACKNOWLEDGED: "Acknowledged", RETURNED_UNACKNOWLEDGED: "Gone, not acknowledged",
  NORMAL: "Over", SHELVED: "Shelved", SUPPRESSED_BY_DESIGN: "In maintenance", OUT_OF_SERVICE: "Out of service",
};

export const STAGES = { __proto__: null,
  NONE: "No candidate", SHADOW: "Shadow: judges beside, decides nothing", CANARY: "Canary: decides for some devices",
  ACTIVE: "Active: in service, still watched", ACCEPTED: "Accepted", REJECTED: "Rejected", ROLLED_BACK: "Rolled back",
};

/** "recon", "port-scan" -> "Port scan (reconnaissance)". */
export function cause(category, type) {
  const kind = CATEGORIES[category] ?? category;
  const name = brief(category, type);
  return name === capital(kind) ? name : `${name} (${kind})`;
}

/** The same where there is little room: "Port scan". */
export function brief(category, type) {
  if (!type || type === category) return capital(CATEGORIES[category] ?? category);
  return capital(type.replace(/^.*\//, "").replaceAll(/[-_]/g, " ")).replace(/^(Arp|Syn|Udp|Tcp|Icmp|Http|Mqtt|Ssh|Sql)\b/, (w) => w.toUpperCase());
}

/** A name such as a MAC address stays as it is. */
export const capital = (words) => (/^[a-z-]+(?![\w:/.])/.test(words) ? words.charAt(0).toUpperCase() + words.slice(1) : words);

/** At most `digits` significant digits, no exponent for what an operator meets; null is a dash. */
export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e7 || size < 1e-4)) return value.toExponential(2);
  return Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "−");
}

const STATISTICS = { __proto__: null, avg: "average", max: "largest", min: "smallest", std_deviation: "spread", slope: "slope", zscore: "deviation from normal", residual: "deviation from what other tags say", staleness: "age", good_ratio: "share of good samples" };
const SIDES = { __proto__: null, all: "", src: ", sent", dst: ", received" };
const SETS = { __proto__: null, ips: "IP addresses", macs: "MAC addresses", ports: "ports", protocols: "protocols" };

/** A feature in words: "network_ports_all_count" -> "Number of ports", "FIT101/avg" -> "FIT101 (average)". */
export function feature(name) {
  if (name.includes("/")) {
    const at = name.lastIndexOf("/");
    return `${name.slice(0, at)} (${STATISTICS[name.slice(at + 1)] ?? name.slice(at + 1).replaceAll("_", " ")})`;
  }
  const short = name.replace(/^(network|log|industrial)_/, "");
  let m = short.match(/^sensor_(\w+?)_(avg|max|min)$/);
  if (m) return `${capital(STATISTICS[m[1]] ?? m[1].replaceAll("_", " "))} (${STATISTICS[m[2]]} of all tags)`;
  m = short.match(/^(ips|macs|ports|protocols)_(all|src|dst)_count$/);
  if (m) return `Number of ${SETS[m[1]]}${SIDES[m[2]]}`;
  m = short.match(/^packets_(all|src|dst)_count$/);
  if (m) return `Number of packets${SIDES[m[1]]}`;
  m = short.match(/^tcp-flags-(\w+)_count$/);
  if (m) return `Number of TCP ${m[1].toUpperCase()} packets`;
  m = short.match(/^(.*)_(avg|max|min|std_deviation)$/);
  if (m) return `${capital(m[1].replaceAll("-", " "))} (${STATISTICS[m[2]]})`;
  m = short.match(/^(.*)_count$/);
  if (m) return `Number of ${m[1].replaceAll(/[-_]/g, " ")}`;
  return capital(short.replaceAll(/[-_]/g, " "));
}

const FEATURES = /\b(?:network|log|industrial|sensor)_[\w-]+|\S+\/(?:avg|min|max|std_deviation|slope|zscore|residual|staleness|good_ratio)\b/g;

/** The reason within a verdict's sentence, in words: what stands beside it (device, verdict, who says so) is left out. */
export function reason(sentence) {
  const why = sentence.match(/^.+?: [A-Z]+, [^,]+, p=[\d.]+: (.*)$/s)?.[1] ?? sentence;
  const first = why.replace(/; (?:says|without) .*$/s, "");
  return capital(first.replaceAll(FEATURES, (name) => feature(name).replace(/^[A-Z](?![A-Z0-9])/, (c) => c.toLowerCase())));
}

export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`);

/** Why a command was given: "quarantine: PLC1: BLOCK, recon/port-scan, ..." -> "Quarantine, because of PLC1: Port scan". */
export function because(text) {
  const [, action, device, label] = text.match(/^(\w+): (.+?): [A-Z]+, ([^,]+), p=/s) ?? [];
  if (!action) return text;
  const [category, type] = label.split("/");
  return `${capital(action.replaceAll("_", " "))}, because of ${device}: ${brief(category, type)}`;
}

const UNITS = { __proto__: null, Cel: "°C", "%": "%", "L/min": "L/min", bar: "bar", kW: "kW", A: "A", m3: "m³" };
export const unit = (ucum) => UNITS[ucum] ?? ucum ?? "";

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** Local time; another day is named. */
export function clock(ms) {
  if (!ms) return "–";
  const day = new Date(ms);
  const today = day.toDateString() === new Date().toDateString();
  return today ? clockFormat.format(day) : `${dayFormat.format(day)} ${clockFormat.format(day)}`;
}

/** "12 s", "3 min", "2 h". */
export function span(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "–";
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

/** Whether a command was given because of an alarm: the same trouble, since it was raised. */
export function answers(command, alarm) {
  const since = command.issued_ms >= alarm.raised_ms - 2000;
  return since && (command.reason.includes(`: ${alarm.device}: `) || command.reason.includes(`, ${alarm.category}/`) || command.device === alarm.device);
}

/** What became of a command: words and kind. */
export function outcome(command) {
  const kind = { __proto__: null, ACCEPTED: "written", REFUSED: "refused", WITHHELD: "advised", LAPSED: "refused" }[command.status] ?? "pending";
  const read = command.read_back === null ? "" : `, read back ${number(command.read_back)}`;
  return { kind, words: capital(command.words) + read };
}
