variable "output" { type = string }
variable "cache" { type = string }
variable "mirror" { type = string }

source "relay-rootfs" "x" {
  image_name       = "x"
  output_directory = var.output
  cache_directory  = var.cache
  mirror           = var.mirror
  security_mirror  = var.mirror
  packages         = ["tiny"]
}

build {
  sources = ["source.relay-rootfs.x"]

  provisioner "shell" {
    inline_shebang = "/bin/sh -eu"
    inline         = ["echo provisioning", "sleep 1000 & sleep 1000"]
  }
}
