# Snabb 2024.08 as a release of nixpkgs packages it; the digest is that of the release's files.
{
  nixpkgs ? fetchTarball {
    url = "https://github.com/NixOS/nixpkgs/archive/refs/tags/25.05.tar.gz";
    sha256 = "1915r28xc4znrh2vf4rrjnxldw2imysz819gzhk9qlrkqanmfsxd";
  },
}:
(import nixpkgs {
  system = "x86_64-linux";
  config = { };
  overlays = [ ];
}).snabb
