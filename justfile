# Shortcuts; everything here is a plain cargo command.

# All tests, as CI runs them.
test:
    .ci/run

# 20,000 generated programs instead of the 2,000 of the test suite.
fuzz-programs:
    MDLC_PROGRAMS=20000 cargo test --release --test programs -- --nocapture

# Ten times the damaged files, the loads and unloads, and the rest of the robustness tests.
robustness:
    MDLC_ROBUSTNESS=10 cargo test --release --test robustness

# Error bounds of the math functions over every f32.
exhaustive-math:
    MDLC_EXHAUSTIVE=1 cargo test --release --lib codegen::math

# Accept changed snapshots, and write what docs/ says of the code anew; read the difference.
snapshots:
    INSTA_UPDATE=always cargo test --tests
