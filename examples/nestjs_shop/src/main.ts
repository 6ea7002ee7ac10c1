// node dist/main.js: the HTTP application, on PORT (3000).

import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { OrdersController, OrdersService } from './orders.js';

@Module({ controllers: [OrdersController], providers: [OrdersService] })
class AppModule {}

const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'] });
app.enableShutdownHooks();
await app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1');
console.log('ready');
