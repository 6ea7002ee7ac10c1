// Where the server is. A file of its own, because workflow code must not read the environment.

export const ADDRESS = process.env.PERDURE_ADDRESS ?? '127.0.0.1:7233';
