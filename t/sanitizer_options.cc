/// What the sanitizers shall do in every program of a build under them (make check-asan).  Options in the environment
/// would not reach the daemons, whose environment master makes, nor the set-gid commands.
///
/// A finding ends the process with SIGABRT, which master logs and the end-to-end tests look for.  Leaks are not sought: the
/// search needs ptrace, which set-gid programs and confined ones do not permit.
extern "C" const char* __asan_default_options() {
    return "abort_on_error=1:detect_stack_use_after_return=1:detect_leaks=0";
}

extern "C" const char* __ubsan_default_options() {
    return "abort_on_error=1:print_stacktrace=1";
}
