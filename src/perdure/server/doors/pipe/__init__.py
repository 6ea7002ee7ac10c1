"""The door for the program that started this process: calls in frames over a socket that both have from the start.

May live here: frames, and how calls are served from them. May not: who starts whom and what ends that, which is the
matter of `perdure.server.engine_process` here and of `perdure.service.engine_processes` there.
"""
