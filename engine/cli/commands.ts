/** The command line: one file a group of commands, one place where errors become exit codes. */
import yargs, { type CommandModule } from 'yargs';
import { hideBin } from 'yargs/helpers';
import { DEFAULT_API } from '../config.ts';
import { EngineError, messageOf } from '../errors.ts';
import { VERSION } from '../version.ts';
import { dnsCommand } from './dns-command.ts';
import { engineCommands } from './engine-commands.ts';
import { eventsCommand } from './events-command.ts';
import { explainCommand } from './explain-command.ts';
import { flowsCommand } from './flows-command.ts';
import { hostCommand } from './host-command.ts';
import { labCommand } from './lab-command.ts';
import { pluginCommand } from './plugin-command.ts';
import { statusCommands } from './status-commands.ts';

/** 1: it was tried and failed. 2: it was asked for wrongly. */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const askingCommands = [explainCommand, dnsCommand, flowsCommand, eventsCommand] as CommandModule[];

const cli = yargs(hideBin(process.argv))
  .scriptName('sluice')
  .usage('$0 <command>\n\nNetwork policy for Kubernetes that WebAssembly plugins extend.')
  .parserConfiguration({ 'populate--': true, 'strip-dashed': true })
  .option('api', {
    type: 'string',
    default: process.env.SLUICE_API ?? DEFAULT_API,
    describe: 'address of the engine’s API, HOST:PORT or https://HOST:PORT (or SLUICE_API)',
    global: true,
  })
  .command([...engineCommands, ...statusCommands, ...askingCommands, pluginCommand, hostCommand, labCommand])
  .completion('completion', 'Print a script that completes commands: source <(sluice completion)')
  .demandCommand(1, 'Say what to do: one of the commands above.')
  .strict()
  .recommendCommands()
  .version(VERSION)
  .help()
  .alias('h', 'help')
  .wrap(Math.min(110, process.stdout.columns ?? 110))
  .epilogue(
    'An engine that asks who you are: SLUICE_TOKEN or SLUICE_TOKEN_FILE; with TLS, --api https://…, SLUICE_CA, and SLUICE_CERT with SLUICE_KEY.\n\nExit codes: 0 done, 1 failed, 2 wrong usage.',
  )
  .exitProcess(false)
  .fail((message, error, parser) => {
    // Of yargs itself: what was typed is not what the parser takes.
    if (error && error.name !== 'YError') throw error;
    parser.showHelp('error');
    console.error(`\n${message || error?.message}`);
    process.exitCode = EXIT_USAGE;
    throw new UsageShown();
  });

/** The usage and what is wrong with it have been printed already. */
class UsageShown extends Error {}

// A reader that goes away, such as `sluice flows | head`, is a way of ending.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

try {
  await cli.parseAsync();
} catch (error) {
  if (error instanceof EngineError) {
    console.error(`sluice: ${error.message} [${error.code}]`);
    process.exitCode = error.code === 'CONFIG_INVALID' ? EXIT_USAGE : EXIT_FAILED;
  } else if (!(error instanceof UsageShown)) {
    console.error(error instanceof Error ? error.stack : messageOf(error));
    process.exitCode = EXIT_FAILED;
  }
}
