// A third-party OPC UA server for the link's tests: `tags` variables PLC1/T0.. that all step together.
// The value is the number of the step since the epoch (time / period) and the source time is exactly
// value * period, so that a reader can tell every missing sample, restarts included.
//
//   node server.js '{"port": 4840, "tags": 1000, "periodMs": 100, "pki": "DIR", "secure": true, "pads": 0}'
//
// Prints {"event": "ready"} and, on SIGTERM, {"event": "end", "steps": n}. A SIGKILL leaves no word.
"use strict";
const {
  OPCUAServer, OPCUACertificateManager, MessageSecurityMode, SecurityPolicy, DataType, StatusCodes, Variant,
} = require("node-opcua");

const options = { tags: 1000, periodMs: 100, secure: false, pads: 0, user: "anna", password: "secret",
  ...JSON.parse(process.argv[2]) };
const say = (event) => process.stdout.write(JSON.stringify(event) + "\n");

async function main() {
  const certificates = new OPCUACertificateManager({
    rootFolder: options.pki, automaticallyAcceptUnknownCertificate: true,
  });
  await certificates.initialize();
  const server = new OPCUAServer({
    port: options.port,
    hostname: "127.0.0.1",
    serverCertificateManager: certificates,
    userCertificateManager: certificates,
    securityModes: [options.secure ? MessageSecurityMode.SignAndEncrypt : MessageSecurityMode.None],
    securityPolicies: [options.secure ? SecurityPolicy.Basic256Sha256 : SecurityPolicy.None],
    allowAnonymous: !options.secure,
    userManager: { isValidUser: (name, password) => name === options.user && password === options.password },
    serverCapabilities: {
      minSupportedSampleRate: 0, // every change goes out: a missing sample is then a lost one
      maxMonitoredItems: 100000, maxMonitoredItemsPerSubscription: 100000, maxSubscriptions: 100,
      maxSubscriptionsPerSession: 100,
      operationLimits: { maxNodesPerRead: 300, maxNodesPerBrowse: 300, maxMonitoredItemsPerCall: 300 },
    },
    buildInfo: { productName: "cellwatch test server" },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  for (let i = 0; i < options.pads; i++) space.registerNamespace(`urn:pad:${i}`);
  const own = space.registerNamespace("urn:test:plc1");
  const plc = own.addObject({ organizedBy: space.rootFolder.objects, browseName: "PLC1" });
  const variables = [];
  const step = () => Math.floor(Date.now() / options.periodMs);
  for (let i = 0; i < options.tags; i++) {
    const description = {
      componentOf: plc, browseName: `T${i}`, dataType: DataType.Double, minimumSamplingInterval: 0,
      accessLevel: "CurrentRead", userAccessLevel: "CurrentRead",
    };
    variables.push(own.addVariable(description));
  }
  const sp = own.addAnalogDataItem({
    componentOf: plc, browseName: "SP", dataType: DataType.Float, minimumSamplingInterval: 0,
    engineeringUnitsRange: { low: 0, high: 100 },
    engineeringUnits: require("node-opcua").standardUnits.degree_celsius,
    value: { dataType: DataType.Float, value: 20 },
  });
  sp.setValueFromSource({ dataType: DataType.Float, value: 20 });
  let last = 0;
  let steps = 0;
  const tick = () => {
    const now = step();
    for (let k = last === 0 ? now : last + 1; k <= now; k++) {
      const time = new Date(k * options.periodMs);
      const value = new Variant({ dataType: DataType.Double, value: k });
      for (const variable of variables) variable.setValueFromSource(value, StatusCodes.Good, time);
      steps++;
    }
    last = now;
  };
  tick();
  await server.start();
  const timer = setInterval(tick, Math.min(20, options.periodMs / 5));
  say({ event: "ready" });
  process.on("SIGTERM", async () => {
    clearInterval(timer);
    say({ event: "end", steps });
    await server.shutdown(10);
    process.exit(0);
  });
}

main().catch((error) => {
  say({ event: "failed", reason: String(error) });
  process.exit(1);
});
