"""Units of OPC UA servers in UCUM, the notation of tags and features.

EUInformation.unitId is the UNECE Recommendation 20 code packed into an integer, three letters at most
(OPC UA Part 8, 5.6.4.3); servers that leave it out are read by their display name.
"""

from __future__ import annotations

_UNECE = {
    "CEL": "Cel", "KEL": "K", "FAH": "[degF]", "P1": "%", "C62": "1", "59": "[ppm]", "61": "[ppb]",
    "PAL": "Pa", "KPA": "kPa", "MPA": "MPa", "BAR": "bar", "MBR": "mbar", "PS": "[psi]", "ATM": "atm",
    "MTR": "m", "CMT": "cm", "MMT": "mm", "4H": "um", "KMT": "km", "INH": "[in_i]", "FOT": "[ft_i]",
    "MTK": "m2", "CMK": "cm2", "MTQ": "m3", "LTR": "L", "MLT": "mL", "CMQ": "cm3", "GLL": "[gal_us]",
    "L2": "L/min", "G51": "L/s", "E32": "L/h", "MQH": "m3/h", "MQS": "m3/s",
    "KGM": "kg", "GRM": "g", "TNE": "t", "MGM": "mg", "KGS": "kg/s", "E93": "kg/h", "F31": "kg/min",
    "MTS": "m/s", "2M": "cm/s", "C16": "mm/s", "KMH": "km/h", "MSK": "m/s2",
    "SEC": "s", "C26": "ms", "B98": "us", "MIN": "min", "HUR": "h", "DAY": "d",
    "HTZ": "Hz", "KHZ": "kHz", "MHZ": "MHz", "RPM": "{rev}/min", "RPS": "{rev}/s",
    "AMP": "A", "4K": "mA", "VLT": "V", "2Z": "mV", "KVT": "kV", "WTT": "W", "KWT": "kW", "MAW": "MW",
    "D46": "V.A", "KVA": "kV.A", "OHM": "Ohm", "FAR": "F", "SIE": "S", "D10": "S/m",
    "JOU": "J", "KJO": "kJ", "WHR": "W.h", "KWH": "kW.h", "NEW": "N", "B47": "kN", "NU": "N.m",
    "C81": "rad", "DD": "deg", "KMQ": "kg/m3", "23": "g/cm3", "GL": "g/L", "M1": "mg/L",
    "2N": "dB", "LUX": "lx", "Q30": "[pH]", "H87": "{piece}", "C36": "mol/m3",
}  # fmt: skip

_NAMES = {
    "°c": "Cel", "degc": "Cel", "deg c": "Cel", "celsius": "Cel", "c": "Cel", "k": "K", "°f": "[degF]",
    "degf": "[degF]", "%": "%", "percent": "%", "ppm": "[ppm]", "pa": "Pa", "kpa": "kPa", "mpa": "MPa",
    "bar": "bar", "mbar": "mbar", "psi": "[psi]", "m": "m", "cm": "cm", "mm": "mm", "µm": "um", "um": "um",
    "l": "L", "litre": "L", "liter": "L", "ml": "mL", "m³": "m3", "m3": "m3", "l/min": "L/min", "l/s": "L/s",
    "l/h": "L/h", "m³/h": "m3/h", "m3/h": "m3/h", "m³/s": "m3/s", "m3/s": "m3/s", "kg": "kg", "g": "g",
    "kg/s": "kg/s", "kg/h": "kg/h", "kg/min": "kg/min", "m/s": "m/s", "mm/s": "mm/s", "m/s²": "m/s2",
    "m/s2": "m/s2", "g/l": "g/L", "mg/l": "mg/L", "s": "s", "sec": "s", "ms": "ms", "min": "min", "h": "h",
    "hz": "Hz", "khz": "kHz", "rpm": "{rev}/min", "1/min": "{rev}/min", "r/min": "{rev}/min", "a": "A",
    "ma": "mA", "v": "V", "volt": "V", "mv": "mV", "kv": "kV", "w": "W", "kw": "kW", "kwh": "kW.h", "j": "J",
    "kj": "kJ", "n": "N", "kn": "kN", "nm": "N.m", "n·m": "N.m", "n.m": "N.m", "rad": "rad", "°": "deg",
    "deg": "deg", "kg/m³": "kg/m3", "kg/m3": "kg/m3", "db": "dB", "ph": "[pH]", "ω": "Ohm", "ohm": "Ohm",
    "va": "V.A", "kva": "kV.A", "cel": "Cel", "µs/cm": "uS/cm", "us/cm": "uS/cm",
}  # fmt: skip
_CODES = frozenset(_UNECE.values()) | frozenset(_NAMES.values())


def ucum(unit_id: int, text: str) -> str:
    """UCUM code of an EUInformation; the server's own text where the unit is not known.

    >>> ucum(4408652, "°C"), ucum(-1, "m³/h"), ucum(0, "widgets")
    ('Cel', 'm3/h', 'widgets')
    """
    code = ""
    if 0 < unit_id < 1 << 32:
        code = unit_id.to_bytes(4, "big").lstrip(b"\0").decode("ascii", errors="replace")
    text = text.strip()
    if text in _CODES:  # a server that speaks UCUM already
        return text
    known = _UNECE.get(code) or _NAMES.get(text)
    if known is None and (len(text) == 1 or text[:1] not in "mM"):  # milli is not mega
        known = _NAMES.get(text.lower())
    return known or text
