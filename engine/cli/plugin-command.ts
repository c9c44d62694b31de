/** `sluice plugin`: from a new folder to a version in force. */
import type { CommandModule } from 'yargs';
import { authorCommands } from './plugin-author-commands.ts';
import { lifeCommands } from './plugin-life-commands.ts';

export const pluginCommand: CommandModule = {
  command: 'plugin',
  describe: 'Write, test, push and watch plugins',
  builder: (yargs) =>
    yargs.command([...authorCommands, ...lifeCommands]).demandCommand(1, 'Say what to do with plugins: one of the commands above.'),
  handler: () => {},
};
