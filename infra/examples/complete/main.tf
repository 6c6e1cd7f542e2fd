# A whole deployment. From the repository's root:
#
#   cargo xtask package --arch arm64
#   terraform -chdir=infra/examples/complete init
#   terraform -chdir=infra/examples/complete apply
#
# and to take everything down again, data included:
#
#   terraform -chdir=infra/examples/complete destroy

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region
}

module "tarn" {
  source = "../.."

  name          = var.name
  package_dir   = coalesce(var.package_dir, "${path.root}/../../../target/lambda")
  architecture  = var.architecture
  force_destroy = var.force_destroy

  kms        = var.kms
  functions  = var.functions
  search     = var.search
  authorizer = var.authorizer
  domain     = var.domain
  build      = var.build
  drop       = var.drop
  alarms     = var.alarms
  log_filter = var.log_filter

  tags = { project = "tarn", deployment = var.name }
}
