//! The binary of `edge-net-models`.

fn main() -> std::process::ExitCode {
    edge_net_cli::run()
}
