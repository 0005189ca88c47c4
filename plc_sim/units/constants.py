"""Constants that the units share, with their sources."""

G = 9.80665  # m/s2, standard gravity (CGPM 1901)
RHO = 997.0  # kg/m3, water at 25 degC (IAPWS-95)
CP = 4181.0  # J/(kg K), water at 25 degC (IAPWS-95)
L_PER_MIN = 1.0 / 60_000.0  # m3/s in one L/min
P_ATM = 101_325.0  # Pa, standard atmosphere (ISO 2533)
R_AIR = 287.05  # J/(kg K), dry air (ISO 2533)
GAMMA = 1.4  # ratio of specific heats of air
RHO_NORMAL = 1.204  # kg/m3, dry air at 101.325 kPa and 20 degC (ISO 2787 normal volume)
